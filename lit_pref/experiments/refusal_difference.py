"""How two refusal rates of the same runs differ, with what is not known about it. Knows counts; nothing about arms."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from ..refusal_statistics import Interval, RefusalCounts
from .refusal_cells import t_interval


class Difference(NamedTuple):
    """A mean over runs, positive where there are more refusals afterwards.

    Attributes:
        low: the mean; or its lower bound where a run has too many responses without a verdict.
        high: the mean, or its upper bound.
        interval: Student's 95% interval over runs, from the lower end of that of ``low`` to the upper end of that of
            ``high``; NaN of one run.
    """

    low: float
    high: float
    interval: Interval

    @property
    def direction(self) -> int:
        """1 or -1 where the interval is on one side of 0; 0 where it is not, and of one run."""
        return int(self.interval.low > 0) - int(self.interval.high < 0)

    def cell(self) -> str:
        """In percentage points."""
        middle = f"{self.low:+.1%}" if self.low == self.high else f"{self.low:+.1%} to {self.high:+.1%}"
        notes = [] if self.low == self.high else ["bounds"]
        if not math.isnan(self.interval.low):
            notes.append(f"{self.interval.low:+.1%} to {self.interval.high:+.1%}")
        return middle.replace("%", "") + (f" ({'; '.join(notes)})".replace("%", "") if notes else "")


def difference(after: Sequence[RefusalCounts], before: Sequence[RefusalCounts]) -> Difference:
    """After minus before, paired: run by run.

    Args:
        after: n counts.
        before: n counts of the same runs.
    """
    pairs = list(zip(_ends(after), _ends(before), strict=True))
    lows = [a.low - b.high for a, b in pairs]
    highs = [a.high - b.low for a, b in pairs]
    interval = Interval(t_interval(lows).low, t_interval(highs).high)
    return Difference(statistics.mean(lows), statistics.mean(highs), interval)


def _ends(counts: Sequence[RefusalCounts]) -> list[Interval]:
    """Of every run the rate twice, or its bounds; bounds in all runs where one of them needs them."""
    if any(math.isnan(c.reported()) for c in counts):
        return [c.bounds() for c in counts]
    return [Interval(c.rate, c.rate) for c in counts]
