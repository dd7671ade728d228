"""What a report leaves out. Knows a name and a reason, and computes neither."""

from typing import NamedTuple


class Omission(NamedTuple):
    """What is not compared, or not all of it, and why."""

    name: str
    why: str
