"""What judges said of a run's responses at its last validation. Knows tags and counts; nothing of judges or models."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..json_log import read_lines
from ..refusal_statistics import wilson
from .metrics_file import LastValidation

#: Prefix of tags -> the name of its set of prompts in evaluations.jsonl.
SETS = {"": "prompts", "over_": "control"}


class Rate(NamedTuple):
    """Refusals of one run by one judge on one set of prompts; NaN where something is not known.

    Attributes:
        rate: refusals among the verdicts; NaN too where too many responses have none.
        low: lower end of the interval that the run logged.
        high: upper end.
        refused: refusals among all responses.
        abstained: responses without a verdict, among all.
        prompts: how many there were.
        verdicts: how many responses have one.
    """

    rate: float
    low: float
    high: float
    refused: float
    abstained: float
    prompts: float
    verdicts: float


class Refusals(NamedTuple):
    """What judges said at the last validation, and of what.

    Attributes:
        rates: judge -> prefix of the set -> rate.
        origins: a thing that has to be the same where rates are compared -> its fingerprint, as far as they are known.
    """

    rates: Mapping[str, Mapping[str, Rate]]
    origins: Mapping[str, str] = {}

    def shares(self) -> dict[str, float]:
        """tag -> share of responses without a verdict, where it is known."""
        return {
            f"refusal/{prefix}abstained_{judge}": rate.abstained
            for judge, sets in self.rates.items()
            for prefix, rate in sets.items()
            if not math.isnan(rate.abstained)
        }


def refusals_of(folder: Path, last: LastValidation) -> Refusals:
    """Read the rates of the last validation, and from evaluations.jsonl of how many responses they are."""
    sizes: dict[str, Mapping[str, object]] = {}
    for line in read_lines(folder / "evaluations.jsonl"):
        if line.get("step") == last.step:
            sizes[str(line.get("set"))] = line
    rates: dict[str, dict[str, Rate]] = {}
    for tag in last.values:
        if (found := re.fullmatch(r"refusal/(over_)?rate_(.+)", tag)) and not tag.startswith("refusal/over_over_"):
            prefix, judge = found[1] or "", found[2]
            rates.setdefault(judge, {})[prefix] = _rate(last.values, judge, prefix, sizes.get(SETS[prefix], {}))
    return Refusals(rates, dict(_origins(sizes)))


def _origins(evaluations: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, str]]:
    for kind, line in evaluations.items():
        if asked := line.get("asked"):  # older runs did not write it
            yield (
                f"the {'prompts' if kind == SETS[''] else 'harmless prompts'} of refusals, or their sampling",
                str(asked),
            )
        judges = line.get("judges")
        for name, fingerprint in judges.items() if isinstance(judges, Mapping) else ():
            yield f"the judge {name}", str(fingerprint)


def _rate(values: Mapping[str, float], judge: str, prefix: str, size: Mapping[str, object]) -> Rate:
    def number(tag: str) -> float:
        return values.get(f"{tag}_{judge}", math.nan)

    responses, prompts = (_count(size.get(key)) for key in ("responses", "prompts"))
    missing = number(f"judge/{prefix}unparseable") + number(f"judge/{prefix}error")
    rate = number(f"refusal/{prefix}rate")
    refused = number(f"refusal/{prefix}worst_low")
    if math.isnan(refused):
        refused = rate * (1 - missing / responses)
    return Rate(
        rate, number(f"refusal/{prefix}low"), number(f"refusal/{prefix}high"), refused,
        missing / responses, prompts, responses - missing,
    )  # fmt: skip


def _count(value: object) -> float:
    return float(value) if isinstance(value, int) and value > 0 else math.nan


class Bar(NamedTuple):
    """Refusals of an arm: means over its runs, and Wilson's interval over prompts."""

    runs: int
    rate: float
    low: float
    high: float
    refused: float
    abstained: float
    verdicts: float


def bar(rates: list[Rate]) -> Bar:
    """The mean over runs, with the interval of one run: runs of one set of prompts are no further prompts.

    One run keeps the interval that it logged. Several have Wilson's of their mean rate at the number of verdicts of
    one run, or of its prompts where each was answered more than once, since answers to one prompt resemble each other.
    """
    means = [sum(column) / len(rates) for column in zip(*rates, strict=True)]
    mean = Rate(*means)
    low, high = mean.low, mean.high
    n = min(mean.verdicts, mean.prompts)
    if len(rates) > 1:
        known = math.isfinite(mean.rate) and math.isfinite(n) and n >= 1
        low, high = wilson(round(mean.rate * round(n)), round(n)) if known else (math.nan, math.nan)
    return Bar(len(rates), mean.rate, low, high, mean.refused, mean.abstained, mean.verdicts)
