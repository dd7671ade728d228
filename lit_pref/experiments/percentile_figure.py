"""The paper's figure 2: how chosen responses moved, by the percentile of the pairs trained on. Imports no torch."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; markers tell them apart in grey.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
NAMES = {
    "ches": "CHES",
    "ln_ches": "LN-CHES",
    "alpha_ches": "alpha-CHES",
    "edit_similarity": "edit similarity",
    "last_hidden": "last hidden",
    "response_cosine": "response cosine",
    "positive_alphas": "positive alphas",
}


def draw(points: dict[str, dict[float, list[float]]], paths: Sequence[Path]) -> None:
    """Write the figure to every path; measures stand side by side at each percentile.

    Args:
        points: measure -> quantile -> mean change of the chosen log-probability of each run, nats.
        paths: .png or .svg files.
    """
    figure = Figure(figsize=(6.4, 4.2), dpi=150, layout="constrained")
    axis = figure.subplots()
    step = 0.12 / max(len(points) - 1, 1)
    for i, (measure, values) in enumerate(points.items()):
        places = [place + (i - (len(points) - 1) / 2) * step for place in range(len(values))]
        means = [statistics.mean(v) for v in values.values()]
        below = [mean - min(v) for mean, v in zip(means, values.values(), strict=True)]
        above = [max(v) - mean for mean, v in zip(means, values.values(), strict=True)]
        axis.errorbar(
            places, means, [below, above], label=NAMES.get(measure, measure), color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)], capsize=3, linewidth=1.4, markersize=5,
        )  # fmt: skip
    axis.axhline(0, color="grey", linewidth=0.8)
    quantiles = list(next(iter(points.values())))
    axis.set_xticks(range(len(quantiles)), [f"{q:.0%}" for q in quantiles])
    axis.set(xlabel="percentile of the score among all pairs (right: most similar)",
             ylabel="change of chosen log-probability (nats)")  # fmt: skip
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=4)
    with matplotlib.rc_context({"svg.hashsalt": "lit-pref"}):
        for path in paths:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
