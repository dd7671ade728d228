"""Measures before an epoch against what the epoch did to the chosen log-probabilities, drawn.

Knows numbers and colours; nothing about training or loggers. It makes ``Figure`` objects without pyplot, whose global
state would outlive a run.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .evidence import Evidence

if TYPE_CHECKING:  # a second of import that only a run that draws should pay
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Points of one panel; of more pairs, every k-th is drawn.
MOST_POINTS = 2000
#: Of Okabe and Ito's palette, which colour-blind readers can tell apart: of pairs that fell, and of those that did not.
FELL, ROSE = "#D55E00", "#0072B2"
#: What stands below a panel.
LABELS = {
    "ches": "CHES",
    "ln_ches": "length-normalised CHES",
    "last_hidden": "last hidden inner product",
    "edit_similarity": "edit similarity",
    "response_cosine": "cosine of responses",
    "alpha_ches": "CHES with coefficients",
    "positive_alphas": "share of positive coefficients",
}


def scatter(values: Mapping[str, np.ndarray], change: np.ndarray, found: Mapping[str, Evidence]) -> "Figure":
    """One panel a measure: its value before, the change of the chosen log-probability after, what that amounts to.

    Args:
        values: measure -> (n,) values.
        change: (n,) change of the chosen log-probability, nats.
        found: measure -> its evidence over these pairs.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = {1: 1, 2: 2, 4: 2}.get(len(values), 3)
    rows = -(-len(values) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.9 * rows + 0.35), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.flat[len(values) :]:
        axes.remove()
    for axes, (name, column) in zip(panels.flat, values.items(), strict=False):
        _panel(axes, name, column, change, found[name])
    for row in panels:
        row[0].set_ylabel("change of chosen\nlog-probability (nats)", fontsize=9)
    marks, names = panels.flat[0].get_legend_handles_labels()
    if marks:
        figure.legend(marks, names, loc="outside upper center", ncols=2, frameon=False, fontsize=9, markerscale=2)
    return figure


def pixels(figure: "Figure") -> np.ndarray:
    """(height, width, 3) uint8 of a figure that ``scatter`` made."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]


def _panel(axes: "Axes", name: str, values: np.ndarray, change: np.ndarray, found: Evidence) -> None:
    drawn = np.flatnonzero(np.isfinite(values) & np.isfinite(change))
    drawn = drawn[:: max(1, -(-len(drawn) // MOST_POINTS))]
    fell = change[drawn] < 0
    for places, colour, label in ((drawn[fell], FELL, "fell"), (drawn[~fell], ROSE, "did not fall")):
        style: dict[str, Any] = {"s": 9, "c": colour, "alpha": 0.55, "linewidths": 0, "rasterized": True}
        axes.scatter(values[places], change[places], label=f"chosen log-probability {label}", **style)
    axes.axhline(0, color="0.4", linewidth=0.8, zorder=0)
    axes.set_xlabel(f"{LABELS.get(name, name)}, before the epoch", fontsize=9)
    interval = f"[{_number(found.low, '+.2f')}, {_number(found.high, '+.2f')}]"
    rho = "undefined" if np.isnan(found.spearman) else f"{_number(found.spearman, '+.2f')} {interval}"
    axes.set_title(f"Spearman with fall {rho}, AUC {_number(found.auc, '.2f')}", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    axes.ticklabel_format(axis="x", useMathText=True, scilimits=(-3, 5))


def _number(value: float, form: str) -> str:
    """In typographic digits; what rounds to nothing has no sign that means something."""
    return "undefined" if np.isnan(value) else format(round(value, 2) + 0.0, form).replace("-", "−")
