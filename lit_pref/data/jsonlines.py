"""JSON lines: one object a line, read by a loop of our own so that every complaint names file, line, column.

Knows nothing about which columns a row should have.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from .excerpts import excerpt, shown
from .rows import BadRow, DataError, Problem, Record
from .strict_json import JsonProblem, parse_line


def read_jsonl(path: Path, lines: Iterable[bytes], number: int) -> Iterator[Record | Problem]:
    """The rows of a JSONL file, numbered from `number`; a line that cannot be read still counts as a row."""
    begun = False
    for line, raw in enumerate(lines, 1):
        where = f"{path}:{line}"
        if not raw.strip():
            yield Problem("blank-line", None, where, None, "", "a blank line was skipped.", "nothing to do", "note")
            continue
        if not begun:
            _refuse_other_json(path, line, raw.strip())
            begun = True
        yield _row(raw, number, where)
        number += 1


def _row(raw: bytes, number: int, where: str) -> Record | Problem:
    try:
        value = parse_line(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _not_utf8(raw, error).at(number, f"{where}:{error.start + 1}")
    except JsonProblem as problem:
        return problem.at(number, f"{where}:{problem.position + 1}")
    if isinstance(value, dict):
        return Record(number, where, value)
    message = "a row must be one object with named columns."
    fix = 'write {"prompt": ..., "chosen": ..., "rejected": ...} or drop the row'
    return BadRow("not-an-object", None, shown(value), message, fix).at(number, where)


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> BadRow:
    near = excerpt(raw[max(0, error.start - 20) : error.end + 20].decode("latin-1"))
    message = f"byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line is not UTF-8."
    return BadRow("not-utf8", None, f"near {near}", message, "save the file as UTF-8 (it may be Latin-1)")


def _refuse_other_json(path: Path, line: int, first: bytes) -> None:
    """Tell a JSON document from JSON lines by its first line; row by row it would be all errors."""
    where = f"{path}:{line}"
    plain = path.name.removesuffix(".gz")
    if first.startswith(b"["):
        message = "this is a JSON array, not JSON lines."
        fix = f"name the file {Path(plain).stem}.json, or write one object per line"
        raise DataError.of_file("json-array", where, message, fix)
    if first == b"{":
        message = "this is one JSON object spread over several lines, not JSON lines."
        fix = f"write each object on one line, or name the file {Path(plain).stem}.json"
        raise DataError.of_file("pretty-json", where, message, fix)
