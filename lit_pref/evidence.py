"""Whether a measure told beforehand whose log-probability would fall: rank correlation, its interval, AUC.

Knows numbers alone; nothing about models, training or files, and imports no torch. A *fall* is minus the change of a
log-probability, in nats: positive where the response became less likely. Legend: n pairs, R resamples.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from .similarity.summary import spearman

#: Entries of one block of resamples (resamples x pairs); a block is all of the bootstrap that exists at once.
ENTRIES_PER_BLOCK = 2**21
#: Coverage of an interval that stands alone.
LEVEL = 0.95


class Evidence(NamedTuple):
    """How well a measure told whose log-probability fell; NaN where that cannot be said.

    Attributes:
        spearman: rank correlation of measure and fall; positive where pairs with higher values fell more.
        low: lower end of its interval.
        high: upper end.
        auc: chance that, of a pair that fell and one that did not, the one that fell has the higher value.
        pairs: pairs that have both numbers.
        level: coverage of the interval.
    """

    spearman: float
    low: float
    high: float
    auc: float
    pairs: int
    level: float = LEVEL

    @property
    def predicts(self) -> bool:
        """Whether the whole interval is above 0: pairs with higher values fell more."""
        return self.low > 0

    @property
    def opposes(self) -> bool:
        """Whether the whole interval is below 0: pairs with higher values fell less."""
        return self.high < 0


def evidence_of(
    values: ArrayLike, fall: ArrayLike, resamples: int = 500, seed: int = 0, level: float = LEVEL
) -> Evidence:
    """What the values of a measure told about the falls that followed.

    Args:
        values: (n,) the measure, before.
        fall: (n,) how far each log-probability fell afterwards, nats.
        resamples: of the bootstrap; 0 for no interval.
        seed: of the bootstrap.
        level: coverage of the interval.
    """
    a, b = np.asarray(values, dtype=float), np.asarray(fall, dtype=float)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    return Evidence(spearman(a, b), *spearman_interval(a, b, resamples, seed, level), auc(a, b > 0), len(a), level)


def auc(values: ArrayLike, positive: ArrayLike) -> float:
    """Chance that a positive has the higher value than a negative, ties counting half; NaN where one kind is missing.

    Args:
        values: (n,) numbers.
        positive: (n,) bool.
    """
    mask = np.asarray(positive, dtype=bool)
    count, others = int(mask.sum()), int((~mask).sum())
    if not count or not others:
        return float("nan")
    ranks = rankdata(np.asarray(values, dtype=float))
    return float((ranks[mask].sum() - count * (count + 1) / 2) / (count * others))


def spearman_interval(
    a: np.ndarray, b: np.ndarray, resamples: int, seed: int, level: float = LEVEL
) -> tuple[float, float]:
    """The percentile-bootstrap interval of a rank correlation; NaN where there is none.

    Pairs are drawn with replacement and ranked anew in each resample. The work is resamples times pairs, linear in
    both: 500 resamples of 60,000 pairs take seconds. Resamples in which a column is constant have no correlation and
    are left out.

    Args:
        a: (n,) finite numbers.
        b: (n,) finite numbers.
        resamples: R.
        seed: of the draws, which depend on it and n alone.
        level: coverage of the interval.
    """
    n = len(a)
    if n < 3 or resamples < 1:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    block = max(1, ENTRIES_PER_BLOCK // n)
    ranks = Ranks(a), Ranks(b)
    found = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        found.append(_weighted_correlations(ranks[0].of(weights), ranks[1].of(weights), weights))
    values = np.concatenate(found)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


class Ranks:
    """Ranks of (n,) numbers in any resample of them, from sorting them once.

    A resample says how often each number was drawn. The mid-rank of a number is then the count of lower ones plus
    half of one more than the count of equal ones: running sums in place of a sort for each resample.
    """

    def __init__(self, values: np.ndarray) -> None:
        #: (n,) place of each number among the distinct ones, in ascending order.
        self.places = np.unique(values, return_inverse=True)[1].reshape(-1)
        self.order = np.argsort(self.places, kind="stable")
        self.starts = np.flatnonzero(np.diff(self.places[self.order], prepend=-1))

    def of(self, weights: np.ndarray) -> np.ndarray:
        """(R, n) mid-ranks under (R, n) counts of how often each number was drawn."""
        drawn = np.add.reduceat(weights[:, self.order], self.starts, axis=1)  # (R, distinct)
        ranks = drawn.cumsum(1) - drawn + (drawn + 1) / 2
        return ranks[:, self.places]


def _weighted_correlations(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) Pearson correlations of (R, n) ranks that count (R, n) times; NaN where one of them is constant."""
    mean = (weights.sum(1, keepdims=True) + 1) / 2  # of ranks, with or without ties
    a, b = a - mean, b - mean
    scale = np.sqrt((weights * a * a).sum(1) * (weights * b * b).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (weights * a * b).sum(1) / scale, np.nan)
