"""The words of the data floor: what a source gives, what a pair of text is, what can be wrong with it.

Knows nothing about files, columns, tokenizers or tensors.
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from lit_pref.errors import PrefError

Message = dict[str, str]  # {"role": ..., "content": ...}
Text = str | list[Message]

# refuse: stops the run, or with on_bad_row=drop removes the row. drop: always removes the row.
# warn: the row stays, the reader should know. note: nothing is wrong, something was decided for you.
Action = Literal["refuse", "drop", "warn", "note"]
REMOVES: tuple[Action, ...] = ("refuse", "drop")


class Record(NamedTuple):
    """One row as its source gave it, before any judgement."""

    number: int  # 0-based row in the source, its name for life
    where: str  # "data/train.jsonl:317", "data/train.parquet row 316", "owner/name[train] row 316"
    fields: dict[str, Any]


class Row(NamedTuple):
    """A valid preference pair of text.

    As chat, `prompt` holds the turns both sides share and each response is a list of one assistant turn.
    """

    number: int
    where: str
    prompt: Text
    chosen: Text
    rejected: Text
    id: str | None = None
    chosen_reward: float | None = None
    rejected_reward: float | None = None
    labels: tuple[str | None, ...] = ()


class Problem(NamedTuple):
    """Something found in a source: in one row, or (with `number` None) in the file or over many rows."""

    case: str  # stable name, "null-field"; with spaces for hyphens it reads as a plain noun
    number: int | None
    where: str
    field: str | None
    found: str  # short excerpt, safe for a terminal; "" where there is nothing to show
    message: str  # one sentence: what is wrong and why it matters
    fix: str  # an imperative without its full stop: "fill it or drop the row"
    action: Action


class BadRow(Exception):  # noqa: N818 (not an error of the program: a verdict on one row)
    """Raised by a check inside a row, turned into the row's Problem by whoever knows the row."""

    def __init__(
        self,
        case: str,
        field: str | None,
        found: str,
        message: str,
        fix: str = "correct it or drop the row",
        action: Action = "refuse",
    ) -> None:
        super().__init__(message)
        self.case, self.field, self.found = case, field, found
        self.message, self.fix, self.action = message, fix, action

    def at(self, number: int, where: str) -> Problem:
        """The same verdict, with the row it is about."""
        return Problem(self.case, number, where, self.field, self.found, self.message, self.fix, self.action)


class DataError(PrefError):
    """Data that cannot be trained on; `str()` is the whole message, ready for a terminal."""

    exit_code = 4

    def __init__(self, message: str, cases: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.cases = tuple(cases)  # the slugs of what was found

    @classmethod
    def of_file(
        cls, case: str, where: object, message: str, fix: str, kept: str = "Nothing was trained."
    ) -> "DataError":
        """Damage that makes the rest of a file unreadable: no row policy can help."""
        return cls(f"{where}: {message}\n  Fix: {fix}.\n  {kept}", [case])
