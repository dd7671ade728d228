"""Scores of many pairs in a few numbers: quantiles and rank correlations. Imports no torch."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def quantiles(values: ArrayLike) -> dict[str, float]:
    """ "0%", "5%", ..., "100%" -> quantile of the values that are numbers; NaN where none is."""
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[~np.isnan(numbers)]
    found = np.quantile(numbers, QUANTILES) if len(numbers) else [np.nan] * len(QUANTILES)
    return {f"{q:.0%}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


def quantile_line(values: ArrayLike) -> str:
    """The quantiles in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in quantiles(values).items())


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Rank correlation over the pairs that have both values; NaN where one of them is constant or fewer than 3 have."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    both = ~(np.isnan(a) | np.isnan(b))
    if both.sum() < 3:
        return float("nan")
    return correlation(rankdata(a[both]), rankdata(b[both]))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of (n,) values; NaN where one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def correlations(columns: Mapping[str, ArrayLike]) -> dict[tuple[str, str], float]:
    """Spearman correlation of every two columns."""
    names: Sequence[str] = list(columns)
    return {(a, b): spearman(columns[a], columns[b]) for a in names for b in names}


def summary(columns: Mapping[str, ArrayLike]) -> str:
    """Two plain tables: quantiles of every column and, of two or more, their Spearman correlations."""
    names = list(columns)
    numbers = {name: np.asarray(values, dtype=float) for name, values in columns.items()}
    found = {name: quantiles(values) for name, values in numbers.items()}
    heads = [f"{q:.0%}" for q in QUANTILES]
    rows = [[name, *(f"{found[name][head]:.4g}" for head in heads)] for name in names]
    text = aligned(["Quantiles", *heads], rows)
    for name in names:
        if missing := int(np.isnan(numbers[name]).sum()):
            text += f"\n{name} has no value for {missing:,} of {len(numbers[name]):,} pairs."
    if len(names) > 1:
        both = correlations(numbers)
        # "+.2f" writes nan as "+nan".
        cells = [[a, *(f"{both[a, b]:+.2f}".replace("+nan", "nan") for b in names)] for a in names]
        text += f"\n\n{aligned(['Spearman', *names], cells)}"
    return text


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first one to the left and the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    return "\n".join(lines)
