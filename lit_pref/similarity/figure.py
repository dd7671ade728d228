"""The distributions of scores as a figure: one panel a measure. Knows arrays and files; imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from ..errors import SetupError

#: Measure -> name of its axis, with the unit; an inner product of states has the square of theirs.
LABELS = {
    "ches": "CHES (hidden units²)",
    "ln_ches": "length-normalised CHES (hidden units²)",
    "last_hidden": "inner product of last states (hidden units²)",
    "edit_similarity": "−edit distance (share of the longer response)",
    "response_cosine": "cosine of responses read alone (no unit)",
    "alpha_ches": "α-weighted CHES (hidden units²)",
    "positive_alphas": "share of α above 0 (no unit)",
}
MARKS = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 40
#: Where the whole range is this many times wider than its middle half, the axis is linear in the middle only.
LONG_TAILS = 20.0
#: Values this much apart, as a share of the largest, are equal but for rounding.
ROUNDING = 1e-9
#: Okabe and Ito's colours, told apart by every kind of eye, and in grey.
BAR, MARK = "#56B4E9", "#D55E00"
SETTINGS: Any = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "lit-pref"}


def draw(columns: Mapping[str, ArrayLike], beside: Path) -> list[Path]:
    """Draw every column and write PNG and SVG; equal columns give equal bytes.

    Args:
        columns: name -> values.
        beside: the file of scores; the figures have its name and their own endings.

    Raises:
        SetupError: a figure cannot be written; the scores are untouched.
    """
    paths = [beside.with_suffix(ending) for ending in (".png", ".svg")]
    with matplotlib.rc_context(SETTINGS):
        across = min(2, len(columns))
        down = -(-len(columns) // across)
        figure = Figure(figsize=(3.4 * across, 2.3 * down), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False).flatten()
        for ax, (name, values) in zip(axes, columns.items(), strict=False):
            panel(ax, LABELS.get(name, name), np.asarray(values, dtype=float))
        for ax in axes[len(columns) :]:
            ax.remove()
        try:
            figure.savefig(paths[0], dpi=200)
            figure.savefig(paths[1], metadata={"Date": None})
        except OSError as error:
            raise SetupError(
                f"{paths[0]}: this figure cannot be written ({error.strerror}).\n  Fix: make room on the disk.\n"
                f"  The scores are in {beside}."
            ) from error
    return paths


def panel(ax: Axes, label: str, values: np.ndarray) -> None:
    """One histogram with its quantiles marked; a sentence where there is nothing to see."""
    numbers = values[np.isfinite(values)]
    ax.set_xlabel(label, loc="left")  # to the right there may be a power of ten
    if len(numbers) == 0 or np.ptp(numbers) <= ROUNDING * abs(numbers).max():
        text = f"{len(numbers):,} pairs, all {numbers[0]:.6g}" if len(numbers) else "no pair has a value"
        text = text.replace("1 pairs, all", "1 pair:") if len(numbers) == 1 else text
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center")
        ax.set_xticks([])
        ax.set_yticks([])
        return
    edges, linear = bins(numbers)
    if linear is not None:
        ax.set_xscale("asinh", linear_width=linear)
        ax.set_xlim(edges[0], edges[-1])  # a margin beyond could overflow
        ax.set_xticks(ticks(edges, linear))
        ax.xaxis.set_major_formatter(lambda value, _place: power(value))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(f"{label}, asinh scale", loc="left")
    counts, _ = np.histogram(numbers, edges)
    ax.stairs(counts, edges, fill=True, color=BAR)
    ax.set_ylabel("pairs")
    ax.set_ylim(0, 1.08 * counts.max())
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    marked(ax, numbers)
    if len(numbers) < len(values):
        text = f"{len(values) - len(numbers):,} of {len(values):,} pairs have no finite value"
        ax.set_title(text, fontsize=7, loc="left", pad=12)


def bins(numbers: np.ndarray) -> tuple[np.ndarray, float | None]:
    """(BINS + 1,) edges, equally wide on the axis; and the width in which that axis is linear, None for all of it."""
    low, high = numbers.min(), numbers.max()
    quarter, three = np.quantile(numbers, (0.25, 0.75))
    middle = float(three - quarter)
    if middle > 0 and high / LONG_TAILS - low / LONG_TAILS > middle:
        edges = middle * np.sinh(np.linspace(np.arcsinh(low / middle), np.arcsinh(high / middle), BINS + 1))
        edges[0], edges[-1] = low, high
        return edges, middle
    edges = np.linspace(low, high, BINS + 1)
    if len(np.unique(edges)) <= BINS:  # the range holds fewer numbers than bins
        edges = np.unique(edges)
    return edges, None


def ticks(edges: np.ndarray, linear: float) -> list[float]:
    """Zero and powers of ten of both signs on an asinh axis, as far apart as their names are wide."""
    low, high = (np.arcsinh(edge / linear) for edge in (edges[0], edges[-1]))
    top = int(np.floor(np.log10(max(abs(edges[0]), abs(edges[-1])))))
    # From the tails inwards: what lies in the middle is crowded.
    wanted = [0.0, *(sign * 10.0**e for e in range(top, top - 20, -1) for sign in (-1, 1))]
    kept: list[float] = []
    for value in wanted:
        place = np.arcsinh(value / linear)
        apart = all(abs(place - np.arcsinh(other / linear)) > 0.14 * (high - low) for other in kept)
        if low <= place <= high and apart:
            kept.append(value)
    return sorted(kept)


def power(value: float) -> str:
    """A power of ten as it is printed: -10 to the fifth, 100, 0."""
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:g}".replace("-", "−")
    return f"${'-' if value < 0 else ''}10^{{{round(np.log10(abs(value)))}}}$"


def marked(ax: Axes, numbers: np.ndarray) -> None:
    """Lines at the quantiles, the median's thicker, with their names where they do not run into each other."""
    above = ax.get_xaxis_transform()
    placed: list[float] = []
    values = np.quantile(numbers, MARKS)
    for share, value in sorted(zip(MARKS, values, strict=True), key=lambda mark: abs(mark[0] - 0.5)):
        median = share == 0.5
        ax.axvline(value, color=MARK, linewidth=1.4 if median else 0.8, linestyle="-" if median else "--")
        x = ax.transAxes.inverted().transform(ax.transData.transform((value, 0)))[0]
        if all(abs(x - other) > 0.09 for other in placed):
            placed.append(x)
            ax.text(value, 1.0, f"{share:.0%}", transform=above, ha="center", va="bottom", fontsize=6, color=MARK)
