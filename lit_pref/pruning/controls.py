"""Subsets as large as a rule's, chosen otherwise: what a rule has to beat before its measure earned anything.

A filtered run also trains on fewer pairs, of other lengths and other classes. Each control keeps one of these and
leaves the score out. Controls wrap the rule that they answer to and stand in its place. What is drawn is a function
of seed, epoch and row numbers. A control may keep pairs that its rule keeps too; their share is its ``overlap``.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from .rules import Candidates, Choice, Rule, ascending, marked, positive, strata


class RandomSubset(Rule):
    """As many pairs as the rule keeps, drawn at random by seed and epoch.

    Args:
        rule: the rule whose number of pairs to keep.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def choose(self, candidates: Candidates) -> Choice:
        wanted = self.rule.choose(candidates).kept
        count = int(wanted.sum())
        kept = marked(candidates, _shuffled(candidates, "random")[:count])
        return _answering(kept, wanted, f"random {count}")


class HighestScores(Rule):
    """As many pairs as the rule keeps, those with the highest scores: what the rule's measure expects to do worst.

    Args:
        rule: the rule whose number of pairs to keep.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def choose(self, candidates: Candidates) -> Choice:
        wanted = self.rule.choose(candidates).kept
        count = int(wanted.sum())
        order = ascending(candidates)
        kept = marked(candidates, order[max(len(order) - count, 0) :])
        return _answering(kept, wanted, f"highest {count}")


class ClassMatched(Rule):
    """As many pairs of each class as the rule keeps, drawn at random within the class.

    Where a rule's benefit is that it finds the few pairs of one class, this control has it too.

    Args:
        rule: the rule whose number of pairs of each class to keep.
        label: column that holds the class; named in ``data.columns.labels``.
    """

    def __init__(self, rule: Rule, label: str) -> None:
        self.rule = rule
        self.label = label

    def choose(self, candidates: Candidates) -> Choice:
        return _matched(candidates, self.rule, candidates.classes(self.label), f"the same {self.label}")


class LengthMatched(Rule):
    """As many pairs of each length as the rule keeps, drawn at random within it.

    CHES grows with the length of the rejected response and falls with that of the chosen one, so a filter also
    chooses lengths. A cell of lengths is a quantile range of the chosen responses' by one of the rejected ones'.

    Args:
        rule: the rule whose number of pairs of each length to keep.
        bins: quantile ranges of each side.
    """

    def __init__(self, rule: Rule, bins: int = 4) -> None:
        self.rule = rule
        self.bins = positive(bins, "bins")

    def choose(self, candidates: Candidates) -> Choice:
        sides = (candidates.chosen_lengths, candidates.rejected_lengths)
        cells = list(zip(*(self._ranges(lengths) for lengths in sides), strict=True))
        return _matched(candidates, self.rule, cells, "the same lengths")

    def _ranges(self, lengths: Tensor) -> list[int]:
        edges = lengths.double().quantile(torch.linspace(0, 1, self.bins + 1, dtype=torch.float64)[1:-1])
        ranges: list[int] = torch.bucketize(lengths.double(), edges, right=True).tolist()
        return ranges


def _matched(candidates: Candidates, rule: Rule, classes: Sequence[object], name: str) -> Choice:
    wanted = rule.choose(candidates).kept
    order = _shuffled(candidates, name)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    kept = torch.zeros_like(wanted)
    for places in strata(classes).values():
        shuffled = places[rank[places].argsort()]
        kept[shuffled[: int(wanted[places].sum())]] = True
    return _answering(kept, wanted, f"random {int(wanted.sum())} of {name}")


def _shuffled(candidates: Candidates, name: str) -> Tensor:
    """Places of all candidates in an order of its own for each control, seed and epoch.

    A row has its key whoever stands beside it: of two classes of pairs, no draw repeats the places of the other.
    """
    # Hashed, since seeds and epochs that are next to each other must give orders that have nothing in common.
    digest = blake2b(f"{name}/{candidates.seed}/{candidates.epoch}".encode(), digest_size=8).digest()
    keys = _mixed(candidates.rows.numpy().astype(np.uint64), int.from_bytes(digest, "big"))
    return torch.from_numpy(np.argsort(keys, kind="stable"))


def _mixed(numbers: np.ndarray, salt: int) -> np.ndarray:
    """(n,) uint64: splitmix64 of each number, different numbers to different keys (Steele et al., OOPSLA 2014)."""
    mixed: np.ndarray = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _answering(kept: Tensor, wanted: Tensor, name: str) -> Choice:
    """The choice of a control called ``name``, and how much of it is what its rule wanted."""
    texts = [name if keep else f"not among {name}" for keep in kept.tolist()]
    count = int(kept.sum())
    return Choice(kept, texts, int((kept & wanted).sum()) / count if count else None)
