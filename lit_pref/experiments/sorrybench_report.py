"""Numbers of the refusal experiment as CSV, table and figure. Knows counts and names; nothing about runs or models."""

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..refusal_statistics import MAX_ABSTAIN, RefusalCounts
from .opinions import COLUMNS, Opinions
from .refusal_cells import change_cell, range_cell, rate_cell, share_cell, t_interval

SETS = ("train", "test", "control")
#: Okabe and Ito's; colour-blind readers can tell them apart, and markers do in grey.
STYLES = {"train": ("#0072B2", "o"), "test": ("#D55E00", "s"), "control": ("#009E73", "^")}
TITLES = {"train": "refusal, train prompts", "test": "refusal, test prompts", "control": "refusal, harmless prompts"}
#: arm -> seed -> set -> counts
Counts = Mapping[str, Mapping[int, Mapping[str, RefusalCounts]]]
#: arm -> seed -> displacement, pairs, steps
Facts = Mapping[str, Mapping[int, Mapping[str, Any]]]


def write_csv(path: Path, counts: Counts, facts: Facts, opinions: Opinions) -> None:
    """A line for every arm, run and set of prompts."""
    names = ["refusal", "compliance", "partial", "unparseable", "error"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "seed", "prompts", *names, "refusal_rate", "wilson_low", "wilson_high",
                         "bound_low", "bound_high", "displacement_nats", "pairs", "steps", *COLUMNS])  # fmt: skip
        for arm, runs in counts.items():
            for seed, sets in runs.items():
                known = facts.get(arm, {}).get(seed, {})
                for name, c in sets.items():
                    numbers = [c.reported(), *c.interval(), *c.bounds()]
                    writer.writerow([arm, seed, name, *c.counts(), *map(repr, numbers),
                                     *(known.get(key, "") for key in ("displacement", "pairs", "steps")),
                                     *opinions.cells(arm, seed, name)])  # fmt: skip


def table(counts: Counts, facts: Facts) -> str:
    """Markdown: one line an arm."""
    sets = [name for name in SETS if any(name in own for runs in counts.values() for own in runs.values())]
    head = ["arm", "pairs", "steps", *(TITLES[name] for name in sets), "complies, test", "no verdict, test",
            "change of chosen, nats"]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for arm, runs in counts.items():
        known = list(facts.get(arm, {}).values())
        cells = [arm, *(range_cell([fact[key] for fact in known]) for key in ("pairs", "steps"))]
        cells += [rate_cell([own[name] for own in runs.values()]) for name in sets]
        cells += [share_cell([own["test"] for own in runs.values()], kinds)
                  for kinds in (("compliance",), ("unparseable", "error"))]  # fmt: skip
        cells.append(change_cell([fact["displacement"] for fact in known]))
        lines.append(f"| {' | '.join(cells)} |")
    seeds = len(next(iter(counts.values())))
    return "\n".join(lines) + (
        f"\n\nMean over {seeds} run(s). In parentheses, 95%: over runs (Student's t), then over prompts (Wilson, of "
        "the mean rate at the number of prompts of one run). The two answer different questions and neither holds the "
        f"other. Where a run has more than {MAX_ABSTAIN:.0%} responses without a verdict, the rates if none and if "
        "all of these were refusals stand in the place of the rate. The change of the chosen log-probability is the "
        "mean over the arm's own data file, trained on or not."
    )


def draw(counts: Counts, paths: Sequence[Path]) -> None:
    """Refusal rates of every arm, bars over runs; where a rate is not reported there is no point."""
    figure = Figure(figsize=(7.2, 1.2 + 0.42 * len(counts)), dpi=150, layout="constrained")
    axis = figure.subplots()
    arms = list(counts)
    for k, (name, (colour, marker)) in enumerate(STYLES.items()):
        for place, arm in enumerate(arms):
            rates = [own[name].reported() for own in counts[arm].values() if name in own]
            if not rates or any(map(math.isnan, rates)):
                continue
            mean, ends = statistics.mean(rates), t_interval(rates)
            bar = None if math.isnan(ends.low) else [[mean - max(ends.low, 0)], [min(ends.high, 1) - mean]]
            axis.errorbar([mean], [place + (k - 1) * 0.2], xerr=bar, color=colour, marker=marker, capsize=2,
                          markersize=5, linestyle="none", label=TITLES[name] if place == 0 else None)  # fmt: skip
    axis.set_yticks(range(len(arms)), arms)
    axis.invert_yaxis()
    axis.set(xlim=(-0.02, 1.02), xlabel="share of refusals (bars: 95% over runs)")
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        figure.legend(frameon=False, loc="outside lower center", ncols=3)
    with matplotlib.rc_context({"svg.hashsalt": "lit-pref"}):
        for path in paths:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
