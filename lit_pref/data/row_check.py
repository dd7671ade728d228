"""Checking one row: its columns, the types they had before, the split into prompt and responses.

Knows nothing about files; of the rows before, it remembers only the first type of each column.
"""

from collections.abc import Iterator
from typing import Any

from .columns import Columns
from .dialogues import Split, split_chat, split_text
from .excerpts import excerpt, type_name
from .fields import FieldCheck, Policy
from .rows import BadRow, Problem, Record, Row, Text


class RowCheck:
    """Checks row after row; remembers the first type of each column and how often prompts are repeated."""

    def __init__(self, columns: Columns, found: frozenset[str], policy: Policy) -> None:
        self.columns, self.found = columns, found
        self.fields = FieldCheck(policy)
        self._first: dict[str, tuple[str, str]] = {}  # column: its type, and the row that had it first
        self._prompted = 0
        self._repeated: list[tuple[int, str]] = []

    @property
    def warnings(self) -> list[BadRow]:
        """What is worth saying about the row checked last, which stays."""
        return self.fields.warnings

    def row(self, record: Record) -> Row:
        """The pair a record holds, or BadRow."""
        self.fields.warnings = []
        prompt = self._content(record, "prompt") if self._has_prompt(record) else None
        chosen, rejected = self._content(record, "chosen"), self._content(record, "rejected")
        if type(chosen) is not type(rejected):
            found = f"chosen is {type_name(chosen)}, rejected is {type_name(rejected)}"
            raise BadRow("mixed-kinds", None, found, "both sides must be text, or both chat turns.")
        try:
            pair = self._split(record, prompt, chosen, rejected)
        except BadRow as bad:  # dialogues know the sides; the reader knows the names of their columns
            bad.field = getattr(self.columns, bad.field) if bad.field else None
            raise
        self._compare(pair)
        rewards = self._reward(record, "chosen_reward"), self._reward(record, "rejected_reward")
        name = self.fields.id(record.fields.get(self.columns.id), self.columns.id)
        labels = tuple(self.fields.label(record.fields.get(column), column) for column in self.columns.labels)
        return Row(record.number, record.where, *pair, name, *rewards, labels)

    def closing(self) -> Iterator[Problem]:
        """What can only be said after the last row."""
        if self._repeated and 2 * len(self._repeated) > self._prompted:
            message = (
                f"in {len(self._repeated):,} of {self._prompted:,} rows both responses begin with the "
                "prompt, so the model would read it twice."
            )
            fix = "remove it from the responses, or for dialogues use --data.columns.prompt=null"
            number, where = self._repeated[0]
            yield BadRow("repeated-prompt", self.columns.prompt, "", message, fix, "warn").at(number, where)

    def _has_prompt(self, record: Record) -> bool:
        name = self.columns.prompt
        if "prompt" not in self.found and name in record.fields:
            message = "a prompt column begins here, but the rows before have none: which rows have prompts?"
            raise BadRow("late-prompt", name, "", message, "give every row a prompt, or none")
        return "prompt" in self.found

    def _content(self, record: Record, attribute: str) -> Text:
        name = getattr(self.columns, attribute)
        if (value := record.fields.get(name)) is None:
            missing = name not in record.fields
            message = (
                "with a prompt column, every row needs a prompt."
                if attribute == "prompt"
                else "a preference pair needs text on both sides."
            )
            case, found = ("missing-field", "missing") if missing else ("null-field", "null")
            raise BadRow(case, name, found, message, "fill it or drop the row")
        content = self.fields.content(value, name)
        self._same_type(record, name, content, "mixed-kinds")
        return content

    def _reward(self, record: Record, attribute: str) -> float | None:
        name = getattr(self.columns, attribute)
        value = record.fields.get(name)
        reward = self.fields.reward(value, name)
        if reward is not None:
            self._same_type(record, name, value, "mixed-numbers")
        return reward

    def _same_type(self, record: Record, name: str, value: Any, case: str) -> None:
        kind = type_name(value)
        first, where = self._first.setdefault(name, (kind, f"{record.where} (row {record.number})"))
        if kind != first:
            message = f"{kind} here but {first} in {where}; a column has one type."
            raise BadRow(case, name, "", message, "write every row the same way, or drop the row")

    def _split(self, record: Record, prompt: Text | None, chosen: Text, rejected: Text) -> Split:
        if isinstance(chosen, list) and isinstance(rejected, list):
            return split_chat(prompt or None, chosen, rejected)
        assert isinstance(chosen, str)
        assert isinstance(rejected, str)
        if isinstance(prompt, list):  # chat turns answered by plain texts
            return split_chat(prompt, *([{"role": "assistant", "content": t}] for t in (chosen, rejected)))
        if prompt is None:
            pair = split_text(chosen, rejected)
            if not pair.prompt:
                self._warn("no-implicit-prompt", "the two texts share no dialogue turns: the prompt is empty.")
            return pair
        if not prompt.strip():
            self._warn("empty-prompt", "the prompt is empty, so the responses answer nothing.")
        else:
            self._prompted += 1
            if chosen.startswith(prompt) and rejected.startswith(prompt):
                self._repeated.append((record.number, record.where))
        return Split(prompt, chosen, rejected)

    def _warn(self, case: str, message: str) -> None:
        fix = "add prompts, or name their column with --data.columns.prompt=NAME"
        self.fields.warnings.append(BadRow(case, self.columns.prompt, "", message, fix, "warn"))

    def _compare(self, pair: Split) -> None:
        chosen, rejected = _words(pair.chosen), _words(pair.rejected)
        for name, response in ((self.columns.chosen, chosen), (self.columns.rejected, rejected)):
            if not response:
                message = "the response is empty; a preference pair needs text on both sides."
                raise BadRow("empty-response", name, '""', message, "fill it or drop the row")
        if chosen == rejected:
            message = "chosen and rejected are the same but for blanks around them, so there is nothing to prefer."
            raise BadRow("identical-responses", None, excerpt(chosen), message, "make them differ", "drop")


def _words(response: Text) -> str:
    """A response without the blanks around it."""
    return (response if isinstance(response, str) else response[0]["content"]).strip()
