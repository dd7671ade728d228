"""What to say of a command that failed, from its log. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import PrefError

#: Where a log says nothing of the kind, its last lines are shown.
LAST_LINES = 3


class Failure(NamedTuple):
    """A command that failed.

    Attributes:
        code: what it exited with.
        reason: what it said was wrong.
    """

    code: int
    reason: str

    @classmethod
    def of(cls, code: int, log: Path) -> "Failure":
        """Its reason is what the log holds from the last line on that begins with "error:"."""
        lines = log.read_text(errors="replace").splitlines()
        starts = [i for i, line in enumerate(lines) if line.startswith("error:")]
        return cls(code, "\n".join(lines[starts[-1] :] if starts else lines[-LAST_LINES:]))

    def __str__(self) -> str:
        return self.reason

    def error(self, text: str) -> PrefError:
        """To raise: ``text``, the reason below it, and the exit code of the command that failed."""
        error = PrefError(f"{text}\n{self.reason}")
        if self.code > 0:  # what a signal ended has none
            error.exit_code = self.code
        return error


def first_error(failures: Mapping[str, Failure], arms: int) -> PrefError:
    """To raise where some arms failed: how many of how many, and the first one's name, reason and exit code."""
    name, failure = next(iter(failures.items()))
    return failure.error(f"{len(failures)} of {arms} arms failed; the first is {name}:")
