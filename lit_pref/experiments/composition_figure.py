"""The figure of the composition experiment: answers by share of mixed pairs, and by arm. Knows counts and cells."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..refusal_statistics import MAX_ABSTAIN, RefusalCounts
from ..world.onpolicy import MIXED
from .composition_cells import BEFORE, Cell, Facts, Runs, counts_of
from .mixed_share import Share, share_title
from .refusal_cells import t_interval

# Okabe and Ito's colours, which colour-blind readers can tell apart; markers and dashes tell them apart in grey.
KINDS: dict[str, tuple[str, str, Any, tuple[str, ...]]] = {
    "refusal": ("#0072B2", "o", "-", ("refusal",)),
    "compliance": ("#D55E00", "s", "--", ("compliance",)),
    "no verdict (garbled)": ("#000000", "^", ":", ("unparseable", "error")),
}
AXIS = "share of answers to held-out harmful prompts"


def draw(runs: Runs, facts: Facts, baseline: str, arms_at: Share, paths: Sequence[Path]) -> None:
    """Write the figure to every path: a row for each tie-break, left by share, right by arm.

    Points are shares of all answers, so that the three kinds add up to one; bars are Student's 95% over runs.
    """
    tie_breaks = list(dict.fromkeys(cell.tie_break for cell in facts))
    figure = Figure(figsize=(8.4, 0.9 + 3.3 * len(tie_breaks)), dpi=150, layout="constrained")
    axes = figure.subplots(len(tie_breaks), 2, squeeze=False, width_ratios=[1, 1.15], sharex="col")
    for (left, right), tie_break in zip(axes, tie_breaks, strict=True):
        own = [cell for cell in facts if cell.tie_break == tie_break]
        _by_share(left, runs, facts, [cell for cell in own if cell.arm == baseline], baseline)
        _by_arm(right, runs, [cell for cell in own if cell.share == arms_at], arms_at)
        left.set_title(f"{baseline}, {tie_break} preferred in ties", fontsize=9, loc="left")
        right.set_title(f"{share_title(arms_at)} mixed pairs, {tie_break} preferred in ties", fontsize=9, loc="left")
    axes[-1][0].set_xlabel("share of mixed pairs in the training data", fontsize=8)
    axes[-1][1].set_xlabel(AXIS, fontsize=8)
    figure.legend(handles=_keys(), frameon=False, loc="outside lower center", ncols=3, fontsize=8)
    with matplotlib.rc_context({"svg.hashsalt": "lit-pref"}):
        for path in paths:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _by_share(axis: Any, runs: Runs, facts: Facts, cells: Sequence[Cell], baseline: str) -> None:
    shown = [BEFORE, *cells]
    for k, kind in enumerate(KINDS):
        places = [place + (k - 1) * 0.13 for place in range(len(shown))]
        means = _points(axis, runs, shown, kind, places, vertical=True)
        colour, _, dashes, _ = KINDS[kind]
        axis.plot(places[1:], means[1:], dashes, color=colour, linewidth=1, zorder=1)
    axis.set_xticks(range(len(shown)), ["before\ntraining", *(_tick(cell, facts) for cell in cells)], fontsize=8)
    axis.set(ylim=(-0.03, 1.03), ylabel=AXIS)
    axis.yaxis.label.set_fontsize(8)
    _plain(axis, "y")


def _by_arm(axis: Any, runs: Runs, cells: Sequence[Cell], arms_at: Share) -> None:
    shown = [BEFORE, *cells]
    for k, kind in enumerate(KINDS):
        _points(axis, runs, shown, kind, [place + (k - 1) * 0.25 for place in range(len(shown))], vertical=False)
    axis.set_yticks(range(len(shown)), [cell.arm.replace("_", " ") for cell in shown], fontsize=8)
    for place in range(1, len(shown)):
        axis.axhline(place - 0.5, color="#eeeeee", linewidth=0.6, zorder=0)
    axis.set(ylim=(len(shown) - 0.5, -0.5))
    axis.set(xlim=(-0.03, 1.03))
    _plain(axis, "x")


def _points(
    axis: Any, runs: Runs, cells: Sequence[Cell], kind: str, places: Sequence[float], *, vertical: bool
) -> list[float]:
    """Draw the points of a kind with their bars; returns the means. Hollow where the rate is not reported."""
    colour, marker, _, labels = KINDS[kind]
    means = []
    for cell, place in zip(cells, places, strict=True):
        counts = counts_of(runs, cell, "test")
        shares = [sum(getattr(c, label) for label in labels) / c.total for c in counts]
        mean, ends = statistics.mean(shares), t_interval(shares)
        bar = None if math.isnan(ends.low) else [[mean - max(ends.low, 0)], [min(ends.high, 1) - mean]]
        point = {"x": [place], "y": [mean], "yerr": bar} if vertical else {"x": [mean], "y": [place], "xerr": bar}
        axis.errorbar(**point, color=colour, marker=marker, markersize=5, capsize=2, linewidth=1, linestyle="none",
                      markerfacecolor="white" if _abstains(counts) else colour, zorder=2)  # fmt: skip
        means.append(mean)
    return means


def _abstains(counts: Sequence[RefusalCounts]) -> bool:
    return any(c.abstained > MAX_ABSTAIN for c in counts)


def _tick(cell: Cell, facts: Facts) -> str:
    """The share asked for; of "all" what it came to."""
    title = share_title(cell.share)
    if cell.share != "all":
        return title
    known = facts[cell].values()
    return f"{title}\n({statistics.mean(fact['classes'][MIXED] / fact['pairs'] for fact in known):.0%})"


def _keys() -> list[Line2D]:
    keys = [Line2D([], [], color=colour, marker=marker, linestyle=dashes, markersize=5, linewidth=1, label=kind)
            for kind, (colour, marker, dashes, _) in KINDS.items()]  # fmt: skip
    hollow = f"hollow: a run has over {MAX_ABSTAIN:.0%} without a verdict"
    keys.append(Line2D([], [], color="grey", marker="o", markerfacecolor="white", linestyle="none", markersize=5,
                       label=hollow))  # fmt: skip
    return [*keys, Line2D([], [], color="grey", marker="|", markersize=5, linewidth=1, label="bars: 95% t, over runs")]


def _plain(axis: Any, grid: str) -> None:
    axis.grid(axis=grid, color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, labelbottom=True)
