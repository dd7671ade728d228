"""JSON as the standard means it, with errors that say where a text broke and what to write instead.

Knows nothing about files or rows: it reads one text and counts positions inside it. `NaN` is let through
here, because it only matters in a column that is used; validation refuses it there.
"""

import json
from collections import Counter
from typing import Any

from .excerpts import around, excerpt
from .rows import BadRow

_BROKEN = "broken-json"
_PYTHON_WORDS = ("None", "True", "False")


class DuplicateKeyError(ValueError):
    """One object names a key twice: which value is meant?"""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise DuplicateKeyError(counts.most_common(1)[0][0])
    return fields


DECODER = json.JSONDecoder(object_pairs_hook=_unique)


class JsonProblem(BadRow):
    """A text that is no JSON, with the position it breaks at."""

    def __init__(self, position: int, case: str, found: str, message: str, fix: str) -> None:
        super().__init__(case, None, found, message, fix)
        self.position = position


def parse(text: str, start: int = 0) -> tuple[Any, int]:
    """The JSON value at `start` and where it ends, or a JsonProblem."""
    try:
        return DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise explain(text, error.pos, error.msg) from error
    except DuplicateKeyError as error:
        message = f"the key {excerpt(error.key)} appears twice in one object, so one value would be lost."
        raise JsonProblem(start, "duplicate-key", "", message, "keep one of the two") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
        reason = "a number with thousands of digits" if isinstance(error, ValueError) else "too many brackets"
        raise JsonProblem(start, _BROKEN, "", f"{reason}, which no reader accepts.", "correct it") from error


def parse_line(line: str) -> Any:
    """The one JSON value a line holds, or a JsonProblem."""
    blanks = len(line) - len(line.lstrip(" \t\r\n"))
    value, end = parse(line, blanks)
    rest = line[end:].lstrip(" \t\r\n")
    if rest:
        position = len(line) - len(rest)
        message = "a second value begins here; a line holds exactly one object."
        raise JsonProblem(position, _BROKEN, around(line, position), message, "give each row its own line")
    return value


def explain(text: str, position: int, reason: str) -> JsonProblem:
    """Why a text is no JSON at a position, in words a writer of data understands."""
    here, before = text[position : position + 1], text[:position].rstrip()
    fix = "correct it or drop the row"
    if not text[position:].strip() or reason.startswith("Unterminated"):
        position = len(text.rstrip())  # Python points at the opening quote; the end is where it was cut
        message, fix = "the text ends inside a value; was the file cut off?", "restore what is missing"
    elif "'" in (here, before[-1:]):
        message, fix = (
            "JSON needs double quotes.",
            "write \"chosen\", not 'chosen' (or write it with json.dumps)",
        )
    elif (here in ("}", "]") and before.endswith(",")) or "trailing comma" in reason:
        message, fix = "a trailing comma; JSON has no comma before a closing bracket.", "delete the comma"
    elif text.startswith(_PYTHON_WORDS, position):
        message, fix = "Python's word, not JSON's.", "write null, true or false"
    elif reason.startswith("Invalid control character"):
        message = "a raw control character inside a text."
        fix = "escape it (\\n, \\t, \\u0000) or write the line with json.dumps"
    else:
        message = f"this is not JSON ({reason[:1].lower()}{reason[1:]})."
    return JsonProblem(position, _BROKEN, around(text, position), message, fix)
