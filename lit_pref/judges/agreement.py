"""How far judges agree, or a judge and people. Knows nothing of who they are; numbers and labels only."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from ..refusal_statistics import RESAMPLES, Interval, percentiles, wilson
from .base import LABELS, Label

VERDICTS: tuple[Label, ...] = LABELS[:3]


class Agreement(NamedTuple):
    """Kappa never alone: where one label is rare it can be low although nearly all labels are the same.

    Attributes:
        n: items on which both gave a verdict.
        left_out: items on which one or both abstained.
        raw: share of the same label.
        kappa: Cohen's; NaN where both always gave one and the same label.
        interval: percentile bootstrap of kappa over items.
        first: share of each label by the first judge.
        second: the same by the second.
    """

    n: int
    left_out: int
    raw: float
    kappa: float
    interval: Interval
    first: dict[Label, float]
    second: dict[Label, float]


def agreement(first: Sequence[Label], second: Sequence[Label], seed: int = 0, confidence: float = 0.95) -> Agreement:
    """Agreement of two judges on the same items in the same order."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a in VERDICTS and b in VERDICTS]
    table = np.zeros((len(VERDICTS), len(VERDICTS)))
    for a, b in both:
        table[VERDICTS.index(a), VERDICTS.index(b)] += 1
    n = len(both)
    if n == 0:
        nothing: dict[Label, float] = dict.fromkeys(VERDICTS, math.nan)
        return Agreement(0, len(first), math.nan, math.nan, Interval(math.nan, math.nan), nothing, dict(nothing))
    # Drawing items again is drawing counts of the table's cells.
    drawn = np.random.default_rng(seed).multinomial(n, table.ravel() / n, RESAMPLES)
    interval = percentiles(cohen_kappa(drawn.reshape(-1, *table.shape)), confidence)
    marginals = [dict(zip(VERDICTS, (table.sum(axis) / n).tolist(), strict=True)) for axis in (1, 0)]
    raw = float(np.trace(table)) / n
    return Agreement(n, len(first) - n, raw, float(cohen_kappa(table)), interval, marginals[0], marginals[1])


def cohen_kappa(table: np.ndarray) -> np.ndarray:
    """(...) kappas of (..., L, L) counts; NaN where chance alone would agree always."""
    total = table.sum((-2, -1))
    observed = np.trace(table, axis1=-2, axis2=-1) / total
    expected = (table.sum(-1) * table.sum(-2)).sum(-1) / total**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)


class Alpha(NamedTuple):
    """Krippendorff's alpha of any number of judges.

    Attributes:
        alpha: 1 is full agreement, 0 what chance gives; NaN where one label is all that was said.
        interval: percentile bootstrap over items.
        n: items with two verdicts or more; the others say nothing.
    """

    alpha: float
    interval: Interval
    n: int


def nominal_alpha(
    judges: Sequence[Sequence[Hashable | None]], seed: int = 0, confidence: float = 0.95
) -> Alpha:  # fmt: skip
    """Krippendorff's alpha for labels without an order (Krippendorff 2011, "Computing alpha-reliability").

    Args:
        judges: a label an item from each judge, items in one order; None, `unparseable` and `error` are missing.
        seed: of the bootstrap.
        confidence: of the interval.
    """
    missing = (None, "unparseable", "error")
    units = [[label for label in unit if label not in missing] for unit in zip(*judges, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    if not units:
        return Alpha(math.nan, Interval(math.nan, math.nan), 0)
    labels = list(dict.fromkeys(label for unit in units for label in unit))
    counts = np.array([[unit.count(label) for label in labels] for unit in units], dtype=float)  # (U, L)
    drawn = np.random.default_rng(seed).multinomial(len(units), [1 / len(units)] * len(units), RESAMPLES)
    interval = percentiles(_alpha(counts, drawn), confidence)
    return Alpha(float(_alpha(counts, np.ones((1, len(units))))[0]), interval, len(units))


def _alpha(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) alphas of units with (U, L) counts of labels, each unit taken (R, U) times."""
    sizes = counts.sum(1)  # (U,)
    pairs = (sizes**2 - (counts**2).sum(1)) / (sizes - 1)  # (U,), unlike ordered pairs, a unit's values weighing 1 each
    total, sums = weights @ sizes, weights @ counts  # (R,), (R, L)
    by_chance = (total**2 - (sums**2).sum(1)) / (total - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by_chance > 0, 1 - weights @ pairs / by_chance, np.nan)


class Calibration(NamedTuple):
    """A judge against known labels. All but the abstentions is over the items with a verdict.

    Attributes:
        sensitivity: share of true refusals that it calls refusals.
        specificity: share of the others, compliances and partial ones, that it does not.
        agreement: with the three labels.
        refusing: agreement on refusal or not, which is all that a rate of refusals takes from a verdict.
        refusals: true refusals that it found, and how many there were.
        others: the same of the others.
        unparseable: items it gave no verdict on.
        error: items it could not be asked about.
    """

    sensitivity: float
    specificity: float
    agreement: Agreement
    refusing: Agreement
    refusals: tuple[int, int]
    others: tuple[int, int]
    unparseable: int
    error: int

    @property
    def intervals(self) -> tuple[Interval, Interval]:
        """Wilson's, of sensitivity and specificity."""
        return wilson(*self.refusals), wilson(*self.others)


def calibrate(verdicts: Sequence[Label], truths: Sequence[Label], seed: int = 0) -> Calibration:
    """Sensitivity and specificity for refusals, and the agreement with the labels; NaN without items of the kind."""
    both = [(v == "refusal", t == "refusal") for v, t in zip(verdicts, truths, strict=True) if v in VERDICTS]
    refused = [v for v, t in both if t]
    others = [not v for v, t in both if not t]
    sensitivity, specificity = (sum(side) / len(side) if side else math.nan for side in (refused, others))
    return Calibration(
        sensitivity,
        specificity,
        agreement(verdicts, truths, seed),
        agreement(_refusing(verdicts), _refusing(truths), seed),
        (sum(refused), len(refused)),
        (sum(others), len(others)),
        list(verdicts).count("unparseable"),
        list(verdicts).count("error"),
    )


def _refusing(labels: Sequence[Label]) -> list[Label]:
    """Partial responses as what they are to a rate of refusals."""
    return ["compliance" if label == "partial" else label for label in labels]


def rogan_gladen(rate: float, sensitivity: float, specificity: float) -> float:
    """The rate that a judge with these errors turned into the one seen; NaN for a judge no better than chance.

    To be shown beside the rate, not instead of it: it is only as good as the set that the errors come from.
    """
    skill = sensitivity + specificity - 1
    return min(1.0, max(0.0, (rate + specificity - 1) / skill)) if skill > 0 else math.nan
