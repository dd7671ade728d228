"""The validation pairs that moved most under every arm, as text. Knows moved_rows.jsonl."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from .arms import Arm
from .numbers import signed
from .texts import plain
from .tokens import number

MOST = 3
LONGEST = 280  # characters of a text


class Moved(NamedTuple):
    """A pair, ready to be shown but for the medium's own escapes."""

    seed: int
    row: str
    chosen_change: str
    rejected_change: str
    prompt: str
    chosen: str
    rejected: str


def moved_rows(arm: Arm) -> list[Moved]:
    """The pairs whose chosen log-probability fell most over all seeds, each pair once."""
    lines = [
        (number(line.get("chosen_displacement")), seed, line)
        for seed, run in arm.runs.items()
        for line in run.moved_rows()
    ]
    lines = sorted((line for line in lines if line[0] < 0 and math.isfinite(line[0])), key=lambda line: line[:2])
    found: dict[str, Moved] = {}
    for change, seed, line in lines:
        row = plain(line.get("row", "?"), 20)
        name = plain(line.get("prompt", ""), 2000) + row
        if name not in found and len(found) < MOST:
            other = signed(number(line.get("rejected_displacement")))
            texts = (plain(line.get(key, ""), LONGEST) for key in ("prompt", "chosen", "rejected"))
            found[name] = Moved(seed, row, signed(change), other, *texts)
    return list(found.values())


def all_moved(arms: Sequence[Arm]) -> dict[str, list[Moved]]:
    """Arm -> its pairs, of arms that have some."""
    return {arm.name: rows for arm in arms if (rows := moved_rows(arm))}
