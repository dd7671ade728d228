"""Which pairs to keep, from their scores: one rule, one class.

Knows numbers, lengths and labels of pairs; nothing about models, measures, files or training. A pair without a score
(NaN) is never kept by a rule that reads scores. Legend: n pairs.
"""

from collections.abc import Mapping, Sequence
from math import ceil, isnan
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError


class Candidates(NamedTuple):
    """The pairs that a rule chooses from, in the order of their rows.

    Attributes:
        rows: (n,) row numbers.
        scores: (n,) float64, higher where the two responses are more similar.
        chosen_lengths: (n,) tokens of the chosen responses.
        rejected_lengths: (n,) tokens of the rejected ones.
        labels: column -> n values, of the columns in ``data.columns.labels``.
        epoch: the epoch that the choice is for, from 0.
        seed: of whatever is drawn at random.
    """

    rows: Tensor
    scores: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    labels: Mapping[str, Sequence[str | None]] = {}
    epoch: int = 0
    seed: int = 0

    def among(self, places: Tensor) -> "Candidates":
        """Those at some places (k,) only."""
        labels = {name: [values[i] for i in places.tolist()] for name, values in self.labels.items()}
        rows, scores, chosen, rejected = (values[places] for values in self[:4])
        return Candidates(rows, scores, chosen, rejected, labels, self.epoch, self.seed)

    def classes(self, label: str) -> list[str | None]:
        """The values of a label; ConfigError where the data have no such label."""
        if label not in self.labels:
            have = ", ".join(self.labels) or "none"
            raise ConfigError(
                f"a pruning rule works within the classes of {label!r}, but the data carry no such label (they have: "
                f"{have}).\n  Fix: name the column, --data.columns.labels='[{label}]'."
            )
        return list(self.labels[label])


class Choice(NamedTuple):
    """What a rule decided.

    Attributes:
        kept: (n,) bool.
        reasons: n short texts, why a pair stays or goes.
        overlap: of a rule that answers to another one, the share of the kept pairs that the other keeps too; None of
            any other rule, and where nothing is kept.
    """

    kept: Tensor
    reasons: list[str]
    overlap: float | None = None


class Rule:
    """Chooses which pairs to train on. Subclass, define ``choose``, and the subclass is a name for ``rule``."""

    def choose(self, candidates: Candidates) -> Choice:
        """Decide on every candidate, by nothing but what it is given."""
        raise NotImplementedError(f"{type(self).__name__} must define choose(candidates)")


class LowestFraction(Rule):
    """Keep the share of pairs with the lowest scores, rounded up, as the paper does (Razin et al. 2025, section 6.3).

    Args:
        fraction: share to keep, above 0 and up to 1.
    """

    def __init__(self, fraction: float) -> None:
        self.fraction = share(fraction, "fraction")

    def choose(self, candidates: Candidates) -> Choice:
        return lowest(candidates, portion(self.fraction, len(candidates.rows)), f"lowest {self.fraction:.4g}")


class LowestCount(Rule):
    """Keep a number of pairs, those with the lowest scores.

    Args:
        count: pairs to keep; all of them where there are fewer.
    """

    def __init__(self, count: int) -> None:
        self.count = positive(count, "count")

    def choose(self, candidates: Candidates) -> Choice:
        return lowest(candidates, self.count, f"lowest {self.count}")


class AtMost(Rule):
    """Keep pairs whose score is not above a threshold.

    Args:
        threshold: highest score that is kept.
    """

    def __init__(self, threshold: float) -> None:
        if isnan(threshold):
            raise ValueError("threshold is nan, but must be a number")
        self.threshold = threshold

    def choose(self, candidates: Candidates) -> Choice:
        kept = candidates.scores <= self.threshold
        return Choice(kept, reasons(candidates, kept, f"at most {self.threshold:.6g}"))


class QuantileWindow(Rule):
    """Keep pairs around a quantile of the scores: the paper's slices of equal size (section 5, figure 2).

    With n scores in ascending order, the slice is centred at round(quantile·(n - 1)), and moved inwards at the ends.

    Args:
        quantile: 0 for the lowest scores, 1 for the highest.
        count: pairs to keep; all of them where there are fewer.
    """

    def __init__(self, quantile: float, count: int = 512) -> None:
        if not 0 <= quantile <= 1:
            raise ValueError(f"quantile is {quantile}, but must lie between 0 and 1")
        self.quantile = quantile
        self.count = positive(count, "count")

    def choose(self, candidates: Candidates) -> Choice:
        order = ascending(candidates)
        size = min(self.count, len(order))
        start = round(self.quantile * (len(order) - 1)) - self.count // 2
        start = min(max(start, 0), len(order) - size)
        kept = marked(candidates, order[start : start + size])
        return Choice(kept, reasons(candidates, kept, f"{size} pairs around quantile {self.quantile:.4g}"))


class FractionSchedule(Rule):
    """Keep the share of pairs with the lowest scores, another share each epoch.

    Args:
        fractions: the share of the first epoch, of the second, ...; the last one stays.
    """

    def __init__(self, fractions: list[float]) -> None:
        if not fractions:
            raise ValueError("fractions is an empty list, but needs at least one share")
        self.fractions = [share(fraction, "fractions") for fraction in fractions]

    def choose(self, candidates: Candidates) -> Choice:
        return LowestFraction(self.fractions[min(candidates.epoch, len(self.fractions) - 1)]).choose(candidates)


class Stratified(Rule):
    """Apply a rule within each class of pairs, so that no class is pruned away.

    Args:
        rule: what to apply to each class.
        label: column that holds the class; named in ``data.columns.labels``.
    """

    def __init__(self, rule: Rule, label: str) -> None:
        self.rule = rule
        self.label = label

    def choose(self, candidates: Candidates) -> Choice:
        kept = torch.zeros(len(candidates.rows), dtype=torch.bool)
        texts = [""] * len(candidates.rows)
        shared: list[float] = []
        for name, places in strata(candidates.classes(self.label)).items():
            choice = self.rule.choose(candidates.among(places))
            kept[places] = choice.kept
            if choice.overlap is not None:
                shared.append(choice.overlap * int(choice.kept.sum()))
            for place, reason in zip(places.tolist(), choice.reasons, strict=True):
                texts[place] = f"{reason} of {self.label} {name!r}"
        return Choice(kept, texts, sum(shared) / int(kept.sum()) if shared else None)


def lowest(candidates: Candidates, count: int, name: str) -> Choice:
    """The ``count`` lowest scores; of equal ones, the lower rows."""
    kept = marked(candidates, ascending(candidates)[:count])
    return Choice(kept, reasons(candidates, kept, name))


def ascending(candidates: Candidates) -> Tensor:
    """Places of the candidates that have a score, the lowest score first."""
    order = candidates.scores.argsort(stable=True)
    return order[~candidates.scores[order].isnan()]


def marked(candidates: Candidates, places: Tensor) -> Tensor:
    """(n,) bool, True at ``places``."""
    kept = torch.zeros(len(candidates.rows), dtype=torch.bool)
    kept[places] = True
    return kept


def reasons(candidates: Candidates, kept: Tensor, name: str) -> list[str]:
    """Why each pair stays or goes under a rule called ``name``."""
    texts = {True: name, False: f"not {name}"}
    unscored = candidates.scores.isnan().tolist()
    return ["no score" if nan else texts[keep] for keep, nan in zip(kept.tolist(), unscored, strict=True)]


def strata(classes: Sequence[object]) -> dict[object, Tensor]:
    """class -> places of its members, classes in order of their first member."""
    found: dict[object, list[int]] = {}
    for place, name in enumerate(classes):
        found.setdefault(name, []).append(place)
    return {name: torch.tensor(places) for name, places in found.items()}


def portion(fraction: float, count: int) -> int:
    """A share of ``count`` pairs, rounded up; 5% of 370 are 19, as in the paper, and of 380 they are 19 too."""
    return ceil(fraction * count - 1e-9)


def share(value: float, key: str) -> float:
    """Refuse what is no share."""
    if not 0 < value <= 1:
        raise ValueError(f"{key} is {value}, but must be above 0 and at most 1")
    return value


def positive(value: int, key: str) -> int:
    """Refuse what counts nothing."""
    if value < 1:
        raise ValueError(f"{key} is {value}, but must be at least 1")
    return value
