"""Which prompts to answer: a source, a column (also one inside a list), and values that rows must have.

Knows nothing about models; encoding is done by ``lit_pref.prompts``.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..data.reading import read
from ..data.rows import DataError, Problem, Record
from ..prompts import Prompt, nothing_generated, read_prompts
from ..rendering import Template
from .pairs_file import prompt_key
from .writing import write_text

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")


@dataclass
class PromptSource:
    """Prompts to answer.

    Attributes:
        path: JSONL, JSON, CSV or Parquet file, a text file with a prompt a line (.txt), a hub name, or the tiny
            world's requests: world:request/train, world:request/test, world:request/safe.
        column: holds the prompt, text or chat turns; "turns[0]" and "a.b" look inside lists and objects.
        id_column: holds names; may be missing.
        where: column -> value that a row must have to be taken; rows with another value are left out.
        limit: how many prompts to take, the first ones; all by default.
        template: how a prompt is rendered; that of training. format: chat makes a string a user turn.
    """

    path: str
    column: str = "prompt"
    id_column: str = "id"
    where: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    template: Template = Template()  # noqa: RUF009, frozen

    def read(self, tokenizer: PreTrainedTokenizerBase, taken: Path) -> list[Prompt]:
        """The prompts in token ids.

        Args:
            tokenizer: of the model that answers.
            taken: file that the chosen rows are written to where columns are looked into or rows are left out.
        """
        source, column, id_column = self.path, self.column, self.id_column
        if self._looks_inside():
            rows = self._rows()
            write_text(taken, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            source, column, id_column = str(taken), "prompt", "id"
        return read_prompts(source, tokenizer, self.template, column, id_column, self.limit)

    @nothing_generated()
    def demand_names(self, prompts: Sequence[Prompt], taken: Path) -> None:
        """DataError where two prompts that ask different things have one name.

        What is known of a prompt by its name, such as gold responses, would be paired with another one.

        Args:
            prompts: that were read.
            taken: as for ``read``.
        """
        first: dict[str, Prompt] = {}
        for prompt in prompts:
            other = first.setdefault(name_of(prompt), prompt)
            if prompt_key(other.text) != prompt_key(prompt.text):
                source = str(taken) if self._looks_inside() else self.path
                places = {record.number: record.where for record in read(source)}
                message = f"its prompt has the name {name_of(prompt)!r}, as another one at {places[other.number]}."
                fix = "give each prompt an id of its own, or set prompts.id_column to a column that does"
                raise DataError.of_file("same-id", places[prompt.number], message, fix)

    def _looks_inside(self) -> bool:
        return bool(self.where) or any(mark in name for mark in "[." for name in (self.column, self.id_column))

    @nothing_generated()
    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        seen: list[Record] = []
        for record in read(self.path):
            if isinstance(record, Problem):
                if record.action == "refuse":
                    raise DataError.of_file(record.case, record.where, record.message, record.fix)
                continue
            seen.append(record)
            if any(_wanted(record, key) != value for key, value in self.where.items()):
                continue
            row = {"prompt": _wanted(record, self.column)}
            name = value_at(record.fields, self.id_column)
            rows.append(row if name is None else {"id": name, **row})
        if not rows:
            message = f"none of its {len(seen)} rows has {self.where}."
            raise DataError.of_file("no-prompts", self.path, message, "correct prompts.where")
        return rows


def value_at(fields: Any, path: str) -> Any:
    """The value at "a", "a.b" or "a[0].b"; None where there is none. A column whose name is the path itself wins."""
    if isinstance(fields, dict) and path in fields:
        return fields[path]
    for name, index in _STEP.findall(path):
        try:
            fields = fields[int(index)] if index else fields[name]
        except (KeyError, IndexError, TypeError):
            return None
    return fields


def name_of(prompt: Prompt) -> str:
    """What a pair of this prompt is called."""
    return prompt.id or f"prompt-{prompt.number:05d}"


def _wanted(record: Record, path: str) -> Any:
    value = value_at(record.fields, path)
    if value is None:
        message = f"there is nothing at {path!r} here; columns: {', '.join(record.fields)}."
        raise DataError.of_file("missing-field", record.where, message, "correct prompts.column or prompts.where")
    return value
