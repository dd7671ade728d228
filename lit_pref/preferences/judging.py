"""Verdicts of one judge, asked for only what its cache lacks, and whether it can be talked round. Knows no pairs."""

from collections.abc import Sequence
from typing import Any

import torch

from ..console import counting
from ..errors import ConfigError
from ..finite_json import finite
from ..judges import CanaryResult, Item, Judge, Verdict, VerdictCache, canary_result, judge_items


def judged(
    judge: Judge, items: Sequence[Sequence[Item]], cache: VerdictCache, device: torch.device, title: str = "Verdicts"
) -> list[list[Verdict]]:
    """A verdict for each item of each prompt; the judge is made ready only where the cache lacks one."""
    flat = [item for own in items for item in own]
    missing = any(verdict is None for verdict in cache.get(judge, flat))
    if missing:
        judge.prepare(device)
    try:
        with counting(title, len(flat), "verdicts") as advance:
            verdicts = iter(judge_items(judge, flat, cache, advance=advance))
    finally:
        judge.release()
        cache.close()
    return [[next(verdicts) for _ in own] for own in items]


class Canaries:
    """How a judge does on responses that try to talk it into a verdict.

    Attributes:
        judge: name of it.
        result: None where it could not be asked.
    """

    def __init__(self, judge: Judge, cache: VerdictCache, device: torch.device) -> None:
        self.judge = judge.name
        self.result: CanaryResult | None = canary_result(_Kept(judge, cache, device))  # type: ignore[arg-type]

    @property
    def trusted(self) -> bool:
        """False where so many talk it round that its rates are not to be reported; to have asked in vain is no sign."""
        return self.result is None or self.result.trusted

    @property
    def sentence(self) -> str:
        """The result for people."""
        if self.result is None:
            return f"{self.judge}: it could not be asked about canaries, so whether it is talked round is not known."
        return self.result.sentence(self.judge)

    def record(self) -> dict[str, Any]:
        """The result for a report."""
        rate = None if self.result is None else self.result.rate
        record: dict[str, Any] = finite({"name": self.judge, "canary_flips": rate, "canaries": self.sentence})
        return record

    def demand(self) -> None:
        """ConfigError where the judge is talked round too often: what it calls a refusal would be no label."""
        if not self.trusted:
            raise ConfigError(f"judge {self.sentence}\n  Fix: set judge to another one.")


class _Kept:
    """A judge whose verdicts on canaries are kept like all others, so that a second start loads no model for them."""

    def __init__(self, judge: Judge, cache: VerdictCache, device: torch.device) -> None:
        self.wrapped, self.cache, self.device = judge, cache, device

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        return judged(self.wrapped, [items], self.cache, self.device, "Canaries")[0]
