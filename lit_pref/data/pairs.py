"""What only shows across rows: repeated pairs, and pairs that contradict each other.

Remembers hashes and places, never texts: about 250 bytes a row.
"""

from hashlib import blake2b

from .rows import Problem, Row, Text

_BYTES = 8  # among a million rows, 64 bits confuse two different ones with a chance of 3 in 100 million
_BORDER = b"\xff"  # stands in no UTF-8, so ("a", "bc") and ("ab", "c") differ


class SeenPairs:
    """The pairs met so far."""

    def __init__(self) -> None:
        self._places: dict[bytes, str] = {}

    def repeats(self, row: Row) -> Problem | None:
        """The row's earlier twin or its contradiction, and the row is remembered."""
        prompt = blake2b(_bytes(row.prompt) + _BORDER, digest_size=_BYTES)
        sides = []
        for response in (row.chosen, row.rejected):
            side = prompt.copy()
            side.update(_bytes(response))
            sides.append(side.digest())
        chosen, rejected = sides
        if twin := self._places.get(chosen + rejected):
            message = f"the same pair as {twin}; both stay and count twice."
            return _warning(row, "exact-duplicate", message, "remove one of them if that is not meant")
        self._places[chosen + rejected] = f"{row.where} (row {row.number})"
        if flip := self._places.get(rejected + chosen):
            message = f"contradicts {flip}: chosen and rejected are swapped, and the two cancel out."
            return _warning(row, "contradicting-pair", message, "keep the one that is right")
        return None


def _bytes(text: Text) -> bytes:
    if isinstance(text, str):
        return text.encode()
    return b"".join(part.encode() + _BORDER for turn in text for part in (turn["role"], turn["content"]))


def _warning(row: Row, case: str, message: str, fix: str) -> Problem:
    return Problem(case, row.number, row.where, None, "", message, fix, "warn")
