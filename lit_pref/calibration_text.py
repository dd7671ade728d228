"""What is said about judges on labelled rows, as Markdown. Knows nothing of how the verdicts were asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from .judged_text import block, visible
from .judges.agreement import Agreement, Calibration
from .judges.base import Verdict
from .judges.labelled_rows import LabelledRow, kinds
from .refusal_statistics import Interval
from .refusals import percent, percents

#: Beside the numbers of the shipped set, so that nobody takes it for a sample.
SHIPPED_NOTE = (
    "The shipped set is hard on purpose (refusals without the usual phrases, compliances that begin with an apology), "
    "and its labels are those of one person. It compares judges and shows where they err; it does not say how often "
    "they err on other responses."
)
WORLD_NOTE = "it reads the tiny world's language alone, so rows in any other say nothing about it."
COLUMNS = (
    "judge", "n", "kappa, refusal or not", "same", "kappa, three labels", "same", "sensitivity", "specificity",
    "unparseable", "error",
)  # fmt: skip


def source_line(source: str, rows: Sequence[LabelledRow]) -> str:
    """Where the rows come from and what they are."""
    counts = Counter(row.label for row in rows)
    labels = ", ".join(f"{label} {counts[label]}" for label in ("refusal", "compliance", "partial"))
    return f"{len(rows):,} rows of {visible(source)}: {labels}."


def table(found: Mapping[str, Calibration]) -> str:
    """A line a judge. Agreement on refusal or not counts a partial response as no refusal, as a refusal rate does."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for name, one in found.items():
        sensitivity, specificity = one.intervals
        cells = [
            name, f"{one.agreement.n:,}", _kappa(one.refusing), percent(one.refusing.raw), _kappa(one.agreement),
            percent(one.agreement.raw), _share(one.sensitivity, sensitivity), _share(one.specificity, specificity),
            str(one.unparseable), str(one.error),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def marginals(name: str, found: Calibration) -> str:
    """How often the judge says each label, beside how often it is true."""
    both = found.agreement
    if not both.n:
        return f"{name} gave no verdict."
    said, true = (
        ", ".join(f"{label} {percent(share)}" for label, share in m.items()) for m in (both.first, both.second)
    )
    return f"{name} says {said}; the labels of the same rows say {true}."


def kinds_table(rows: Sequence[LabelledRow], labels: Mapping[str, Sequence[str]]) -> str:
    """Of each kind of row, how many of the verdicts are right about refusal or not."""
    lines = [f"| kind | rows | {' | '.join(labels)} |", "|---|---|" + "---|" * len(labels)]
    for kind, places in kinds(list(rows)):
        cells = [right_words(*right(rows, said, places)) for said in labels.values()]
        lines.append(f"| {_cell(kind)} | {len(places)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def right(rows: Sequence[LabelledRow], labels: Sequence[str], places: Sequence[int]) -> tuple[int, int]:
    """Verdicts that are right about refusal or not, and verdicts."""
    judged = [i for i in places if labels[i] not in ("unparseable", "error")]
    return sum((labels[i] == "refusal") == (rows[i].label == "refusal") for i in judged), len(judged)


def right_words(count: int, n: int) -> str:
    """A share of few, as counts."""
    return f"{count} of {n}" if n else "–"


def differing(
    rows: Sequence[LabelledRow], verdicts: Sequence[Verdict], places: Sequence[int], total: int
) -> str:  # fmt: skip
    """Rows on which a judge and the label differ, each with the judge's reason, and how many there are in all."""
    if not total:
        return "The judge and the labels differ nowhere."
    parts = [f"{total:,} rows are labelled otherwise; the first {len(places)} of them, the surest verdicts first:"]
    for i in places:
        row, verdict = rows[i], verdicts[i]
        sure = "" if verdict.score is None else f", probability {verdict.score:.2f}"
        reason = f" ({_cell(verdict.reason)})" if verdict.reason else ""
        parts.append(f"**{_cell(row.id)}**: judged {verdict.label}{sure}, labelled {row.label}{reason}")
        parts += [f"prompt\n\n{block(row.item.prompt)}", f"response\n\n{block(row.item.response)}"]
    return "\n\n".join(parts)


def _kappa(found: Agreement) -> str:
    if math.isnan(found.kappa):
        return "undefined"
    return f"{found.kappa:.2f} [{found.interval.low:.2f}, {found.interval.high:.2f}]"


def _share(share: float, interval: Interval) -> str:
    return "–" if math.isnan(share) else f"{percent(share)} {percents(interval)}"


def _cell(text: str) -> str:
    """Text of others on one line, where it stands among Markdown."""
    line = visible(" ".join(text.split()))
    return "".join(f"\\{c}" if c in "|*`<>[]!#" else c for c in line[:200])
