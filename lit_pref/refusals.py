"""What is said about judged responses: numbers with their intervals, changes, disagreements. Knows no judge or model.

Several responses to one prompt resemble each other. Where there are any, intervals draw whole prompts again, and there
is no McNemar test, which takes its pairs to be independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .refusal_statistics import (
    MAX_ABSTAIN,
    Interval,
    Paired,
    RefusalCounts,
    cluster_bootstrap,
    difference_interval,
    paired,
    wilson,
)

NOTHING = Interval(math.nan, math.nan)
ABSTENTIONS = ("unparseable", "error")


class Answer(NamedTuple):
    """A response to a prompt, both as a judge reads them.

    Attributes:
        number: of the prompt.
        sample: number of the response among those to this prompt.
        prompt: text.
        response: text.
    """

    number: int
    sample: int
    prompt: str
    response: str

    @property
    def key(self) -> tuple[int, int]:
        """The same for the answers that two policies give to one prompt."""
        return self.number, self.sample


class Summary(NamedTuple):
    """What one judge's labels say; rates are NaN where they are not to be reported.

    Attributes:
        counts: of each label.
        rate: refusals among the verdicts.
        interval: 95%, of the rate; Wilson's, or of whole prompts drawn again.
        bounds: the rate if no abstention were a refusal, and if every one were; NaN of a judge that is not trusted.
        compliance: share of the verdicts.
        partial: share of the verdicts.
    """

    counts: RefusalCounts
    rate: float
    interval: Interval
    bounds: Interval
    compliance: float
    partial: float

    @property
    def asked(self) -> bool:
        """Whether the judge could be asked at all; otherwise there is no rate, not even an unknown one."""
        return self.counts.error < self.counts.total


def summary(
    labels: Sequence[str],
    numbers: Sequence[int],
    max_abstain: float = MAX_ABSTAIN,
    trusted: bool = True,
    seed: int = 0,
) -> Summary:
    """The summary of labels.

    Args:
        labels: one a response.
        numbers: of the prompts of the responses.
        max_abstain: with a larger share of abstentions there is no rate.
        trusted: False where the judge's rates are not to be reported.
        seed: of the bootstrap.
    """
    counts = RefusalCounts.of(labels)
    if not trusted or math.isnan(counts.reported(max_abstain)):
        bounds = counts.bounds() if trusted else NOTHING  # without abstentions they would be the rate itself
        return Summary(counts, math.nan, NOTHING, bounds, math.nan, math.nan)
    interval = counts.interval()
    if len(set(numbers)) < len(numbers):
        judged = [(label == "refusal", n) for label, n in zip(labels, numbers, strict=True) if label not in ABSTENTIONS]
        interval = cluster_bootstrap([float(refuses) for refuses, _ in judged], [n for _, n in judged], seed)
        if (
            interval.low == interval.high
        ):  # all prompts alike, of which the bootstrap has no idea that they could differ
            prompts = len({n for _, n in judged})
            interval = wilson(round(counts.rate * prompts), prompts)
    return Summary(
        counts, counts.rate, interval, counts.bounds(), counts.compliance_rate, counts.partial / counts.verdicts
    )


def change(before: Sequence[str], after: Sequence[str], numbers: Sequence[int], seed: int = 0) -> Paired:
    """The change of the refusal rate on the same prompts; several responses to one are drawn again together."""
    result = paired(before, after, seed)
    if len(set(numbers)) == len(numbers):
        return result
    both = [
        (float(b == "refusal") - float(a == "refusal"), n)
        for a, b, n in zip(before, after, numbers, strict=True)
        if a not in ABSTENTIONS and b not in ABSTENTIONS
    ]
    interval = difference_interval([difference for difference, _ in both], [n for _, n in both], seed)
    return result._replace(interval=interval, p_value=math.nan)


def disagreements(
    first: Sequence[str],
    second: Sequence[str],
    scores: Sequence[tuple[float | None, float | None]],
    count: int,
) -> list[int]:
    """Where two judges contradict each other most: refusal against compliance first, then the surer they are.

    A judge without scores is taken to be sure.
    """
    places = [
        i
        for i, (a, b) in enumerate(zip(first, second, strict=True))
        if a != b and a not in ABSTENTIONS and b not in ABSTENTIONS
    ]

    def size(i: int) -> tuple[bool, float, int]:
        sure = sum(1.0 if score is None else score for score in scores[i])
        return "partial" in (first[i], second[i]), -sure, i

    return sorted(places, key=size)[:count]


def flips(before: Sequence[str], after: Sequence[str]) -> list[int]:
    """Where the verdict changed; ceased refusals first."""
    changed = [
        i
        for i, (a, b) in enumerate(zip(before, after, strict=True))
        if a != b and a not in ABSTENTIONS and b not in ABSTENTIONS
    ]
    return sorted(changed, key=lambda i: (before[i] != "refusal", after[i] != "refusal", i))


def percent(share: float, sign: str = "") -> str:
    """A share for people."""
    return "unknown" if math.isnan(share) else f"{100 * share:{sign}.0f}%"


def percents(interval: Interval) -> str:
    """An interval of shares for people."""
    return f"[{percent(interval.low)}, {percent(interval.high)}]"


def change_words(found: Paired) -> str:
    """A change for people."""
    if not found.n:
        return "no prompt has a verdict both times"
    low, high = (f"{100 * end:+.0f}" for end in found.interval)
    p = "" if math.isnan(found.p_value) else f", exact McNemar p = {found.p_value:.2g}"
    over = f" over the {found.n:,} with a verdict both times" if found.left_out else ""
    return f"difference {100 * found.difference:+.0f} points [{low}, {high}]{over}{p}"
