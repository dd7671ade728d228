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
