"""Refusals by every judge, on prompts that deserve them and on harmless ones. Knows arms and rates."""

import math

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from .arms import Arm
from .drawing import COLOURS, INK, Drawing, blank, label
from .refusals import SETS, Bar, bar
from .texts import plain

NAME = "refusals"
TITLE = "Refusals"
KINDS = {"": "refusals", "over_": "over-refusals (harmless prompts)"}


def draw(arms: list[Arm]) -> Drawing | str:
    """The figure, or why there is none."""
    bars: dict[tuple[str, str], dict[str, Bar]] = {}
    for judge in sorted({judge for arm in arms for run in arm.runs.values() for judge in run.refusals.rates}):
        for prefix in SETS:
            for arm in arms:
                rates = [r for run in arm.runs.values() if (r := run.refusals.rates.get(judge, {}).get(prefix))]
                if rates:
                    bars.setdefault((judge, prefix), {})[arm.name] = bar(rates)
    if not bars:
        return "no run has refusal rates at its last validation (callbacks.RefusalRate)"
    names = [arm.name for arm in arms if any(arm.name in own for own in bars.values())]
    judges = list(dict.fromkeys(judge for judge, _ in bars))
    kinds = [prefix for prefix in SETS if any(prefix == own for _, own in bars)]
    figure = blank(0.75 + len(judges) * (0.55 + 0.3 * len(names)))
    axes = figure.subplots(len(judges), len(kinds), squeeze=False, sharey=True, sharex=True)
    rows: list[tuple[object, ...]] = []
    for line, judge in zip(axes, judges, strict=True):
        for ax, prefix in zip(line, kinds, strict=True):
            own = bars.get((judge, prefix), {})
            ax.set_title(f"{KINDS[prefix]}\n{plain(judge, 36)}")
            ax.tick_params(labelbottom=True)
            _panel(ax, names, own)
            if not own:
                ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", va="center")
            rows += [(arm, judge, KINDS[prefix], *values) for arm, values in own.items()]
        line[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("share of responses", fontsize=8)
    marks = [
        Patch(facecolor=COLOURS[5], edgecolor=INK, linewidth=0.6, label="refusal, among all"),
        Patch(facecolor="none", edgecolor=INK, hatch="/////", linewidth=0.6, label="no verdict, among all"),
        axes.flat[0].errorbar([], [], xerr=[], color=INK, marker="o", markersize=4, capsize=2, linestyle="none"),
    ]
    said = [*(mark.get_label() for mark in marks[:2]), "refusals among verdicts"]
    figure.legend(marks, said, loc="outside upper center", ncols=3)
    caption = (
        "At the last validation. Points: refusals among the verdicts with 95% intervals over prompts (Wilson; of one "
        "run its own, of several of their mean at the verdicts of one run). A point is missing where too many "
        f"responses have no verdict, or where that is not known. n: {_counts(rows)}."
    )
    head = ["arm", "judge", "prompts", "runs", "rate", "low", "high", "refused_of_all",
            "no_verdict_of_all", "verdicts_per_run"]  # fmt: skip
    return Drawing(NAME, TITLE, caption, figure, head, rows)


def _panel(ax: Axes, names: list[str], bars: dict[str, Bar]) -> None:
    for place, name in enumerate(names):
        if (found := bars.get(name)) is None:
            continue
        if not math.isnan(found.refused):
            ax.barh(place, found.refused, height=0.55, color=COLOURS[5], edgecolor=INK, linewidth=0.6)
            ax.barh(place, found.abstained, height=0.55, left=found.refused, color="none", hatch="/////", edgecolor=INK,
                    linewidth=0.6)  # fmt: skip
        if not math.isnan(found.rate):
            known = not math.isnan(found.low)
            ends = [[max(found.rate - found.low, 0)], [max(found.high - found.rate, 0)]] if known else None
            ax.errorbar(found.rate, place, xerr=ends, color=INK, marker="o", markersize=4, capsize=2.5, elinewidth=1.1)
    ax.set_yticks(range(len(names)), [label(name) for name in names], fontsize=8)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])


def _counts(rows: list[tuple[object, ...]]) -> str:
    said: dict[str, set[str]] = {}
    for row in rows:
        verdicts = float(str(row[-1]))
        text = "an unknown number of" if math.isnan(verdicts) else f"{verdicts:,.4g}"
        said.setdefault(f"{row[2]}", set()).add(text)
    return "; ".join(f"{kind}, {' or '.join(sorted(own))} verdicts a run" for kind, own in said.items())
