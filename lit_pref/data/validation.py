"""From rows as a source gives them to preference pairs of text that can be trained on, or the reason why not.

Knows nothing about files or tokenizers: lengths in tokens, templates and special tokens come later.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from .columns import Columns
from .fields import Policy
from .pairs import SeenPairs
from .row_check import RowCheck
from .rows import BadRow, Problem, Record, Row

HEAD = 100  # rows looked at to tell a missing column from a row that lacks a value


def validate(
    records: Iterable[Record | Problem], columns: Columns | None = None, policy: Policy | None = None
) -> Iterator[Row | Problem]:
    """Stream pairs and problems in the order of the source; problems found while reading pass through.

    A row that cannot be used gives exactly one Problem with action "refuse" or "drop", the first found; a row
    that can may be preceded by warnings about it. Raises a DataError where a needed column does not exist.
    """
    columns = columns or Columns()
    stream = iter(records)
    head = _head(stream)
    found = columns.found_in(item for item in head if isinstance(item, Record))
    check = RowCheck(columns, found, policy or Policy())
    seen = SeenPairs()
    for item in chain(head, stream):
        if isinstance(item, Problem):
            yield item
            continue
        try:
            row = check.row(item)
        except BadRow as bad:
            yield bad.at(item.number, item.where)
            continue
        for warning in check.warnings:
            yield warning.at(item.number, item.where)
        if repeated := seen.repeats(row):
            yield repeated
        yield row
    yield from check.closing()


def _head(stream: Iterator[Record | Problem]) -> list[Record | Problem]:
    head: list[Record | Problem] = []
    records = 0
    for item in stream:
        head.append(item)
        records += isinstance(item, Record)
        if records == HEAD:
            break
    return head
