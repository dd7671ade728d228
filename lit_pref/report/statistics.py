"""Means and paired differences with what they leave open. Knows numbers; nothing of runs or files.

Every interval is of 95%, and NaN where there is too little to say anything.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
#: Spread below this part of the numbers is rounding: they are sums in float32, whose order a seed may permute.
ROUNDING = 1e-5


class Estimate(NamedTuple):
    """A mean over n numbers with Student's interval; no interval of fewer than two."""

    n: int
    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """A mean difference of n pairs with Student's interval and the two-sided p-value of the paired t-test."""

    n: int
    mean: float
    low: float
    high: float
    p: float


def estimate(values: Sequence[float], scale: float | None = None) -> Estimate:
    """Student's interval of a mean. One value that is no number makes the mean none: nothing is left out unsaid.

    Args:
        values: one a seed.
        scale: how large the numbers are that they were made of; by default that of the values.
    """
    n = len(values)
    mean = math.fsum(values) / n if n and all(map(math.isfinite, values)) else _undefined(values)
    if n < 2 or not math.isfinite(mean):
        return Estimate(n, mean, math.nan, math.nan)
    half = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * _deviation(values, mean, scale) / math.sqrt(n)
    return Estimate(n, mean, mean - half, mean + half)


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference:
    """Ours minus theirs over the seeds that both have.

    Where the differences do not vary, or by no more than rounding, there is no t-test, so its p-value is NaN rather
    than 0: runs that do not depend on their seed are no repetitions.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    values = [ours[seed] - theirs[seed] for seed in seeds]
    scale = max((abs(one[seed]) for one in (ours, theirs) for seed in seeds), default=0.0)
    found = estimate(values, scale)
    p = math.nan
    if not math.isnan(found.low) and (error := _deviation(values, found.mean, scale) / math.sqrt(found.n)) > 0:
        p = 2 * float(stdtr(found.n - 1, -abs(found.mean) / error))
    return Difference(*found, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of one family (Holm, 1979); a p-value that is NaN is no test and stays NaN.

    The k-th smallest of m is multiplied by m - k + 1, is at least as large as those before it, and at most 1.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        adjusted[place] = highest
    return adjusted


def _deviation(values: Sequence[float], mean: float, scale: float | None = None) -> float:
    """The standard deviation of a sample; 0 where what differs is rounding alone."""
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return spread if spread > ROUNDING * (max(map(abs, values)) if scale is None else scale) else 0.0


def _undefined(values: Sequence[float]) -> float:
    return sum(values) if values else math.nan  # an infinity stays one, NaN stays NaN
