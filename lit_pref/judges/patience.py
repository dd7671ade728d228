"""When to ask a server again, and when to leave it alone. Knows nothing of HTTP or judges.

The one retry layer of the endpoint judge.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

LONGEST_WAIT_S = 30.0


def backoff(base_s: float, attempt: int, salt: str) -> float:
    """Seconds before attempt number `attempt` + 1: doubling, capped, with a jitter that the salt determines."""
    longest = min(LONGEST_WAIT_S, base_s * 2.0 ** min(attempt, 30))
    return longest * random.Random(f"{salt}:{attempt}").uniform(0.5, 1.0)


def retry_after(value: str | None, now: float | None = None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 where it says nothing to us."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
        except ValueError:
            return 0.0
    return max(0.0, seconds) if seconds < float("inf") else 0.0


class Leave(NamedTuple):
    """Leave to send one request; `trial`: it is the one that tries whether the server is back."""

    trial: bool


class Circuit:
    """Opens after some failures in a row; then one request at a time tries whether the server is back.

    Safe to use from several threads.

    Args:
        failures: how many in a row open it.
        wait_s: seconds from opening to the first trial; doubled after each that fails, at most 30.
        stop: set when nobody wants to wait any more.
        clock: seconds, for tests.
    """

    def __init__(
        self, failures: int, wait_s: float, stop: threading.Event, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.failures, self.wait_s, self.stop, self.clock = failures, wait_s, stop, clock
        self.in_a_row = 0
        self.trials = 0
        self._try_at = 0.0
        self._trying = False
        self._changed = threading.Condition()

    @property
    def open(self) -> bool:
        return self.in_a_row >= self.failures

    def enter(self, until: float) -> Leave | None:
        """Wait until a request may be sent; None where that is not before `until`."""
        with self._changed:
            while True:
                now = self.clock()
                if now >= until or self.stop.is_set():
                    return None
                if not self.open:
                    return Leave(False)
                if now >= self._try_at and not self._trying:
                    self._trying = True
                    return Leave(True)
                wait = until - now if self._trying else min(until, self._try_at) - now
                self._changed.wait(min(max(wait, 0.001), 0.2))  # short, so that `stop` is seen

    def succeeded(self) -> None:
        with self._changed:
            self.in_a_row = self.trials = 0
            self._trying = False
            self._changed.notify_all()

    def failed(self, leave: Leave) -> None:
        with self._changed:
            self.in_a_row += 1
            if leave.trial:  # not one that was under way when the circuit opened
                self._trying = False
            if self.open and (leave.trial or self.in_a_row == self.failures):
                self._try_at = self.clock() + min(LONGEST_WAIT_S, self.wait_s * 2.0 ** min(self.trials, 30))
                self.trials += 1
            self._changed.notify_all()
