"""Rules that decide between two refusals, or between two compliances. Know texts; nothing about judges or models.

A rule gives each response a number, and the higher one wins; where numbers are equal or missing the tie stays open and
the prompt gives no pair. Models that compare two responses without a number for each (as PairRM) do not fit in here.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..data.rows import Text
from ..world import style_of
from ..world.onpolicy import ORDERS

if TYPE_CHECKING:
    import torch


class Contestant(NamedTuple):
    """A response in a tie, and the prompt that it answers (text or chat turns)."""

    prompt: Text
    response: str


class TieBreak(ABC):
    """Scores responses of like verdict. Subclass, define ``scores``, and the subclass is a class_path."""

    @abstractmethod
    def scores(self, contestants: Sequence[Contestant]) -> list[float | None]:
        """A number for each, in order, higher is better; None where there is none."""

    def prepare(self, device: torch.device) -> None:  # noqa: B027, a rule has nothing to load
        """Get ready: load a model onto the device. Optional to call."""

    def release(self) -> None:  # noqa: B027
        """Give back what ``prepare`` took."""


class Shorter(TieBreak):
    """The response with fewer characters wins."""

    def scores(self, contestants: Sequence[Contestant]) -> list[float | None]:
        return [-float(len(c.response.strip())) for c in contestants]


class Longer(TieBreak):
    """The response with more characters wins."""

    def scores(self, contestants: Sequence[Contestant]) -> list[float | None]:
        return [float(len(c.response.strip())) for c in contestants]


class RandomTie(TieBreak):
    """A coin decides, the same one whenever the same two responses meet: the paper's first choice.

    Args:
        seed: of the coin.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def scores(self, contestants: Sequence[Contestant]) -> list[float | None]:
        return [self._drawn(c) for c in contestants]

    def _drawn(self, contestant: Contestant) -> float:
        prompt, response = contestant
        text = f"{self.seed}\0{prompt!r}\0{response}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / 2**48


class WorldStyle(TieBreak):
    """Of two of the tiny world's refusals the softer wins, or the blunter; two answers of one style stay a tie.

    Args:
        prefer: which refusal wins.
    """

    def __init__(self, prefer: Literal["softer", "blunter"] = "softer") -> None:
        self.order = ORDERS[{"softer": "soft", "blunter": "blunt"}[prefer]]

    def scores(self, contestants: Sequence[Contestant]) -> list[float | None]:
        styles = [style_of(c.response) for c in contestants]
        return [None if style is None else -float(self.order.index(style)) for style in styles]


class InTurn(TieBreak):
    """Several rules, each asked where those before it give equal numbers; a response without a number comes last.

    Args:
        rules: the rules in their order; each gives numbers of its own size, so only order within one rule counts.
    """

    def __init__(self, rules: list[TieBreak]) -> None:
        self.rules = rules

    def scores(self, contestants: Sequence[Contestant]) -> list[float | None]:
        columns = [rule.scores(contestants) for rule in self.rules]
        keys = [tuple(float("-inf") if value is None else value for value in row) for row in zip(*columns, strict=True)]
        rank = {key: float(place) for place, key in enumerate(sorted(set(keys)))}
        return [rank[key] for key in keys]

    def prepare(self, device: torch.device) -> None:
        for rule in self.rules:
            rule.prepare(device)

    def release(self) -> None:
        for rule in self.rules:
            rule.release()
