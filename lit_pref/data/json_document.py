"""A JSON document: an array of objects, `{"data": [...]}`, one object of equally long columns, or one row.

Knows nothing about which columns a row should have. The whole file is held in memory, as JSON asks; for
large data JSON lines or Parquet are the better files.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .excerpts import shown
from .jsonlines import read_jsonl
from .rows import BadRow, DataError, Problem, Record
from .streams import Opened
from .strict_json import JsonProblem, explain, parse, parse_line

_BLANK = " \t\r\n"


def read_json(path: Path, opened: Opened, number: int) -> Iterator[Record | Problem]:
    """The rows of a JSON document, numbered from `number`; damage anywhere makes the document unreadable."""
    raw = opened.read()
    if _holds_lines(raw):
        message = "the file holds JSON lines although its name ends in .json; it was read as JSON lines."
        yield Problem("json-lines", None, str(path), None, "", message, "nothing to do", "note")
        yield from read_jsonl(path, io.BytesIO(raw), number)
        return
    text = _decoded(path, raw)
    try:
        if text.lstrip(_BLANK).startswith("["):
            yield from _array(path, text, number)
            return
        document = parse_line(text)
    except JsonProblem as problem:
        line, column = _place(text, problem.position)
        found = f"{problem.found} — " if problem.found else ""
        raise DataError.of_file(
            problem.case, f"{path}:{line}:{column}", found + problem.message, problem.fix
        ) from problem
    yield from _object(path, document, number)


def _holds_lines(raw: bytes) -> bool:
    """Whether the file is JSON lines under the name .json, as many are: an object, and below it another."""
    first, _, rest = raw.lstrip().partition(b"\n")
    return first.startswith(b"{") and first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{")


def _array(path: Path, text: str, number: int) -> Iterator[Record | Problem]:
    line, counted = 1, 0
    for position, value in _elements(text):
        line += text.count("\n", counted, position)
        counted = position
        yield _row(value, number, f"{path}:{line}")
        number += 1


def _elements(text: str) -> Iterator[tuple[int, Any]]:
    """Each element of an array with its position, one at a time."""
    position = _skip(text, text.index("[") + 1)
    while not (position < len(text) and text[position] == "]"):
        value, end = parse(text, position)
        yield position, value
        position = _skip(text, end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
            if text[position : position + 1] == "]":
                raise explain(text, position, "Illegal trailing comma")
        elif text[position : position + 1] != "]":
            raise explain(text, position, "Expecting ',' delimiter")
    rest = _skip(text, position + 1)
    if rest < len(text):
        raise explain(text, rest, "Extra data")


def _object(path: Path, document: dict[str, Any], number: int) -> Iterator[Record | Problem]:
    if isinstance(document, dict) and list(document) == ["data"] and isinstance(document["data"], list):
        rows: list[Any] = document["data"]
    elif isinstance(document, dict) and document and all(isinstance(v, list) for v in document.values()):
        lengths = {name: len(values) for name, values in document.items()}
        if len(set(lengths.values())) > 1:
            message = f"the columns of this file differ in length: {lengths}."
            raise DataError.of_file("uneven-columns", path, message, "write a JSON array of objects")
        rows = [dict(zip(document, values, strict=True)) for values in zip(*document.values(), strict=True)]
    else:
        rows = [document]
    for index, value in enumerate(rows):
        yield _row(value, number + index, f"{path} row {index}")


def _row(value: Any, number: int, where: str) -> Record | Problem:
    if isinstance(value, dict):
        return Record(number, where, value)
    message = "a row must be one object with named columns."
    return BadRow("not-an-object", None, shown(value), message).at(number, where)


def _decoded(path: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{raw[error.start]:02x} in this line is not UTF-8."
        raise DataError.of_file(
            "not-utf8", f"{path}:{line}", message, "save the file as UTF-8 (it may be Latin-1)"
        ) from error


def _place(text: str, position: int) -> tuple[int, int]:
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _BLANK:
        position += 1
    return position
