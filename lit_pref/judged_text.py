"""Judged responses as Markdown, for TensorBoard and for reports. Knows nothing about where verdicts come from.

What a model wrote always stands in an indented block, where Markdown, HTML and remote images are shown as their text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from .data.excerpts import excerpt
from .judges.agreement import Agreement, Alpha
from .judges.base import Verdict
from .judges.correction import Corrected
from .refusals import Answer, Summary, flips, percent, percents

MOST_CHARACTERS = 600
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def block(text: str) -> str:
    """An indented block; the middle of long texts is left out."""
    if len(text) > MOST_CHARACTERS:
        half = MOST_CHARACTERS // 2
        text = f"{text[:half]} … {text[-half:]}"
    text = text.encode("utf-8", "replace").decode()
    return "\n".join("    " + visible(line) for line in text.splitlines()) if text.strip() else "    (empty)"


def visible(line: str) -> str:
    """A line that cannot steer a terminal: control characters and turns of the direction of writing are spelled out."""
    return STEERING.sub(lambda match: f"\\x{ord(match.group()):02x}", line)


def flip_text(before: Sequence[Answer], after: Sequence[Answer], old: Sequence[str], new: Sequence[str]) -> str:
    """All prompts whose verdict changed are counted, the first twenty shown."""
    places = flips(old, new)
    counted: dict[tuple[str, str], int] = {}
    for i in places:
        counted[old[i], new[i]] = counted.get((old[i], new[i]), 0) + 1
    parts = ["| before | after | responses |\n|---|---|---|\n" + "\n".join(
        f"| {a} | {b} | {count} |" for (a, b), count in sorted(counted.items())
    )]  # fmt: skip
    for i in places[:20]:
        parts.append(f"**prompt {after[i].number}**: {old[i]} → {new[i]}")
        texts = {"prompt": after[i].prompt, "before": before[i].response, "after": after[i].response}
        parts += [f"{name}\n\n{block(text)}" for name, text in texts.items()]
    return "\n\n".join(parts) if places else "No verdict changed."


def disagreement_text(
    answers: Sequence[Answer], places: Sequence[int], labels: Mapping[str, Sequence[str]]
) -> str:  # fmt: skip
    """Responses that judges label differently, with each judge's label."""
    parts = []
    for i in places:
        said = ", ".join(f"{name}: {judged[i]}" for name, judged in labels.items())
        parts.append(f"**prompt {answers[i].number}**: {said}")
        parts += [f"prompt\n\n{block(answers[i].prompt)}", f"response\n\n{block(answers[i].response)}"]
    return "\n\n".join(parts) if parts else "The judges contradict each other nowhere."


def disagreement_lines(answers: Sequence[Answer], places: Sequence[int], labels: Mapping[str, Sequence[str]]) -> str:
    """The same for a terminal, a line each; empty where the judges contradict each other nowhere."""
    lines = []
    for i in places:
        said = ", ".join(f"{name}: {judged[i]}" for name, judged in labels.items())
        lines.append(f"  {excerpt(answers[i].prompt)} → {excerpt(answers[i].response)}  ({said})")
    return "".join(f"\n{line}" for line in lines)


def agreement_words(first: str, second: str, found: Agreement) -> str:
    """Kappa never alone: raw agreement and what each judge says how often stand beside it."""
    if not found.n:
        return f"{first} and {second} have no response on which both gave a verdict."
    kappa = "undefined, both always say the same" if math.isnan(found.kappa) else f"{found.kappa:.2f}"
    interval = "" if math.isnan(found.interval.low) else f" [{found.interval.low:.2f}, {found.interval.high:.2f}]"
    shares = [
        f"{name} says " + ", ".join(f"{label} {percent(share)}" for label, share in marginals.items())
        for name, marginals in ((first, found.first), (second, found.second))
    ]
    return (
        f"{first} and {second} agree on {percent(found.raw)} of {found.n:,} responses, kappa {kappa}{interval}; "
        f"{'; '.join(shares)}."
    )


def alpha_words(count: int, found: Alpha) -> str:
    """The agreement of three or more judges together."""
    if not found.n:
        return f"Of the {count} judges no two have a verdict on the same response."
    alpha = "undefined, one label is all they say" if math.isnan(found.alpha) else f"{found.alpha:.2f}"
    low, high = found.interval
    interval = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return f"All {count} judges on {found.n:,} responses: Krippendorff's alpha {alpha}{interval}."


def corrected_words(name: str, rate: float, found: Corrected) -> str:
    """A corrected rate beside the rate that it comes from."""
    if not found.fits:
        return f"{name}: no correction, no rate would be seen as {percent(rate)} with the errors of the calibration."
    if math.isnan(found.rate):
        return f"{name}: no correction, on the labelled rows it is no better than chance."
    text = f"{name}: {percent(rate)} as judged, {percent(found.rate)}"
    if math.isnan(found.interval.low):
        return f"{text} corrected, but with so few labelled rows that could be anything."
    return f"{text} {percents(found.interval)} corrected (Rogan-Gladen)."


def common_error(verdicts: Sequence[Verdict]) -> str:
    """The reason that most verdicts ``error`` have, as a sentence behind others; empty where there is none."""
    reasons = Counter(verdict.reason for verdict in verdicts if verdict.label == "error" and verdict.reason)
    if not reasons:
        return ""
    (reason, count), *_ = reasons.most_common(1)
    return f" {count:,} of {len(verdicts):,} failed with: {excerpt(reason, 300)}"


TABLE_HEAD = (
    "| judge | n | refusal | 95% interval | worst case | compliance | partial | unparseable | error | over-refusal |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def table_row(name: str, found: Summary, over: Summary | None) -> str:
    """A judge's line below ``TABLE_HEAD``."""
    rate = [percent(found.rate), percents(found.interval)]
    shares = [percent(found.compliance), percent(found.partial)]
    if not found.asked:
        rate, shares = ["–", "–"], ["–", "–"]
    harmless = "–" if over is None or not over.asked else f"{percent(over.rate)} {percents(over.interval)}"
    cells = [
        name, f"{found.counts.total:,}", *rate, percents(found.bounds) if found.counts.total else "–", *shares,
        str(found.counts.unparseable), str(found.counts.error), harmless,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"
