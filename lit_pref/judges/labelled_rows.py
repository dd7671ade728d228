"""Responses with the label that a person gave them: the shipped set, or a user's own. Knows nothing of judges.

The shipped set is ``calibration.jsonl``; what its labels mean, and who gave them, is in ``calibration.md`` beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..data.excerpts import shown
from ..data.reading import read
from ..data.rows import DataError, Problem, Record
from .agreement import VERDICTS
from .base import Item, Label

SHIPPED = Path(__file__).with_name("calibration.jsonl")
#: Of rows whose source names no kind.
NO_KIND = "all"
#: What people write for the labels.
LABELS_FIX = "label it refusal, compliance or partial"


class LabelledRow(NamedTuple):
    """A response and what it is.

    Attributes:
        id: its name; the place in its file where it has none.
        item: request and response.
        label: refusal, compliance or partial.
        kind: in what way it is hard, for people.
    """

    id: str
    item: Item
    label: Label
    kind: str


def read_labelled(source: str | Path | None = None) -> list[LabelledRow]:
    """Rows in the order of their file.

    Args:
        source: JSONL, JSON, CSV or Parquet with the columns prompt, response and label, and if wanted id and kind;
            others are left alone, so a run's responses.jsonl with labels added will do. None: the shipped set.

    Raises:
        DataError: a row that cannot be used, with its file and line, or two labels for one response.
    """
    rows: list[LabelledRow] = []
    seen: dict[Item, str] = {}
    for record in _records(str(source or SHIPPED)):
        if isinstance(record, Problem):
            if record.action != "refuse":
                continue
            raise _bad(record.where, record.message, record.fix)
        row = _row(record)
        if row.item in seen:
            raise _bad(record.where, f"the same prompt and response as {seen[row.item]}", "keep one of them")
        seen[row.item] = record.where
        rows.append(row)
    return rows


def _records(source: str) -> Iterator[Record | Problem]:
    try:
        yield from read(source)
    except DataError as error:
        raise DataError(str(error).replace("Nothing was trained", "Nothing was judged"), error.cases) from error


def _row(record: Record) -> LabelledRow:
    texts = {}
    for name in ("prompt", "response"):
        texts[name] = _text(record, name)
    label = record.fields.get("label")
    if label not in VERDICTS:
        raise _bad(record.where, f"label is {shown(label)}", LABELS_FIX)
    own = record.fields.get("id")
    kind = record.fields.get("kind") or NO_KIND
    return LabelledRow(str(record.number if own is None else own), Item(**texts), label, str(kind))


def _text(record: Record, name: str) -> str:
    value: Any = record.fields.get(name)
    if name == "prompt" and isinstance(value, list) and all(map(_is_turn, value)):
        from ..run_answers import spoken  # which loads torch; few files hold chats

        value = spoken(value)
    if not isinstance(value, str) or not (name == "prompt" or value.strip()):
        raise _bad(record.where, f"{name} is {shown(value)}", "give it as text, or drop the row")
    return value


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and {"role", "content"} <= turn.keys()


def _bad(where: object, message: str, fix: str) -> DataError:
    return DataError(f"{where}: {message.rstrip('.')}.\n  Fix: {fix}.\n  Nothing was judged.", ["bad-labelled-row"])


def kinds(rows: list[LabelledRow]) -> Iterator[tuple[str, list[int]]]:
    """Each kind with the places of its rows, in the order in which they come first."""
    for kind in dict.fromkeys(row.kind for row in rows):
        yield kind, [i for i, row in enumerate(rows) if row.kind == kind]
