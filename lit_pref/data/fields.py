"""Checking one value of one column: text, chat turns, a reward, an id.

Knows nothing about the other values of the row, nor about other rows.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from .excerpts import excerpt, shown
from .rows import BadRow, Message, Text

ROLES = ("system", "user", "assistant", "tool")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # all of ASCII's but tab and line ends
# What a list of turns looks like where CSV, or a careless writer, made it one string.
_CHAT_TEXT = re.compile(r"\s*\[\s*\{\s*(\"role\"|'role'|\"content\"|'content')\s*:")
_EXACT = 2**53  # whole numbers beyond it change when they become floats


@dataclass(frozen=True)
class Policy:
    """What to do where reasonable people differ.

    Args:
        max_chars: longest text accepted in one column of one row, in characters; a chat counts all its turns.
        control_characters: `refuse` a text with control characters (NUL, escape; not tabs and line ends), or
            `strip` them and say in how many rows.
    """

    max_chars: int = 200_000
    control_characters: Literal["refuse", "strip"] = "refuse"


class FieldCheck:
    """Checks values under one policy; `warnings` collects what is worth saying about a row that stays."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.warnings: list[BadRow] = []

    def content(self, value: Any, field: str) -> Text:
        """The value of a prompt, chosen or rejected column: text, or a list of turns."""
        if isinstance(value, str):
            self._limit(len(value), field)
            if _CHAT_TEXT.match(value):
                message = "this text is a chat written as JSON; it would be trained on with its brackets."
                fix = "write chats as lists of {role, content}, in JSONL or Parquet"
                raise BadRow("chat-as-text", field, excerpt(value), message, fix)
            return self.text(value, field)
        if isinstance(value, list) and value:
            turns = [self._turn(turn, f"{field}[{index}]") for index, turn in enumerate(value)]
            self._limit(sum(len(turn["content"]) for turn in turns), field)
            return turns
        message = "text or a list of {role, content} is needed here."
        raise BadRow("not-text", field, shown(value), message, "write it as text or drop the row")

    def text(self, value: str, field: str) -> str:
        """Text that can be encoded and printed."""
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                found = f"\\u{ord(value[error.start]):04x} at character {error.start + 1}"
                message = "half of a surrogate pair stands alone, which no UTF-8 text can hold."
                raise BadRow("lone-surrogate", field, found, message, "remove it or drop the row") from error
        control = _CONTROL.search(value)
        if not control:
            return value
        found = f"\\x{ord(control[0]):02x} at character {control.start() + 1}"
        if self.policy.control_characters == "strip":
            message = "control characters were removed."
            self.warnings.append(BadRow("stripped-control-characters", field, found, message, "nothing to do", "warn"))
            return _CONTROL.sub("", value)
        message = "a control character, which tokenizers and terminals read as they like."
        fix = "remove it, or strip such characters with --data.control_characters=strip"
        raise BadRow("control-characters", field, found, message, fix)

    def reward(self, value: Any, field: str) -> float | None:
        """A finite number, also as CSV writes it; None where it is not known."""
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise _not_a_number(field, value)
        if isinstance(value, int) and abs(value) > _EXACT:
            message = "this whole number is too large to be a reward: it changes when it becomes a float."
            raise BadRow("huge-number", field, shown(value), message)
        try:
            number = float(value)
        except ValueError as error:
            raise _not_a_number(field, value) from error
        if not math.isfinite(number):
            message = "a reward must be a finite number (and NaN is not JSON)."
            raise BadRow("non-finite-number", field, shown(value), message, "write null or drop the row")
        return number

    def id(self, value: Any, field: str) -> str | None:
        """A name for the pair: text or a whole number."""
        if value is None or value == "":
            return None
        if isinstance(value, str):
            self._limit(len(value), field)
            return self.text(value, field)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        message = "an id is text or a whole number."
        raise BadRow("bad-id", field, shown(value), message, "write it as text, or map the id to no column")

    def label(self, value: Any, field: str) -> str | None:
        """A value to sort pairs by: text, a number or a truth value, as text; None where there is none."""
        if value is None or isinstance(value, str):
            return self.id(value, field)
        if isinstance(value, bool | int | float):
            return str(value)
        message = "a label is text, a number or a truth value."
        raise BadRow("bad-label", field, shown(value), message, "write it as text, or leave it out of the labels")

    def _turn(self, turn: Any, field: str) -> Message:
        if not isinstance(turn, dict) or "role" not in turn or "content" not in turn:
            fix = 'write {"role": "user", "content": "..."} or drop the row'
            raise BadRow("bad-turn", field, shown(turn), "a chat turn needs a role and a content.", fix)
        role, content = turn["role"], turn["content"]
        if role not in ROLES:
            message = f"unknown role; the roles are {', '.join(ROLES)}."
            raise BadRow("unknown-role", f"{field}.role", shown(role), message, "use one of them")
        if not isinstance(content, str):
            message = "the content of a chat turn must be text."
            raise BadRow("not-text", f"{field}.content", shown(content), message, "write it as text")
        if any(turn[key] is not None for key in turn.keys() - {"role", "content"}):
            more = ", ".join(sorted(turn.keys() - {"role", "content"}))
            message = "only role and content of a turn are read; its other keys are left out."
            self.warnings.append(
                BadRow(
                    "extra-turn-keys",
                    field,
                    excerpt(more),
                    message,
                    "nothing to do, if that is meant",
                    "warn",
                )
            )
        return {"role": role, "content": self.text(content, f"{field}.content")}

    def _limit(self, length: int, field: str) -> None:
        if length > self.policy.max_chars:
            message = f"longer than max_chars ({self.policy.max_chars:,}); one such row can fill the memory."
            fix = "shorten it, raise --data.max_chars, or drop the row"
            raise BadRow("too-long", field, f"{length:,} characters", message, fix)


def _not_a_number(field: str, value: Any) -> BadRow:
    message = "a reward must be a number."
    return BadRow("not-a-number", field, shown(value), message, "write a number or null, or drop the row")
