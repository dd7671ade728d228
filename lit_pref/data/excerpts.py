"""Showing a piece of somebody's data on a terminal: short, on one line, and unable to steer the terminal.

Knows nothing about rows, files or what is wrong with the value.
"""

import re
import reprlib
from typing import Any

LIMIT = 60  # characters shown of any value
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?", re.DOTALL)
_CONSTANTS = {None: "null", True: "true", False: "false"}


def printable(text: str) -> str:
    """Text on one line without escape sequences, control, format (bidi) or surrogate characters."""
    text = " ".join(_ESCAPES.sub("", text).split())
    return text if text.isprintable() else "".join(c for c in text if c.isprintable())


def excerpt(text: str, limit: int = LIMIT) -> str:
    """The start of a text in double quotes, as `"Sure, the addr..."`."""
    shown = printable(text[: 4 * limit])  # four times: escapes and runs of blanks take room and vanish
    cut = len(shown) > limit or len(text) > 4 * limit
    return f'"{shown[:limit]}..."' if cut else f'"{shown}"'


def around(text: str, position: int, limit: int = 40) -> str:
    """The `limit` characters around a position, with dots where text was left out."""
    start = max(0, min(position - limit // 2, len(text) - limit))
    end = start + limit
    return f"{'...' if start else ''}{printable(text[start:end])}{'...' if end < len(text) else ''}"


def shown(value: Any) -> str:
    """Any JSON value with the name of its type: `3 (a number)`, `null`, `"text"`."""
    if isinstance(value, str):
        return excerpt(value)
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    return f"{printable(reprlib.repr(value))[:LIMIT]} ({type_name(value)})"


def type_name(value: Any) -> str:
    """What a reader of JSON calls the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else type(value).__name__
