"""How a comparison shows where it is: a table that changes on a terminal, a line for every run elsewhere.

Knows jobs and the files of their runs; starts nothing.
"""

import csv
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..console import say
from .arm_job import ArmJob
from .jobs import Job

#: Seconds between two looks at the files of runs.
REFRESH = 1.0
#: Bytes at the end of metrics.csv that hold its last line.
TAIL = 65536


class Board(AbstractContextManager["Board"]):
    """Shows arms while they run.

    Args:
        arms: all arms, those done before too.
        at_once: processes at a time.
    """

    def __init__(self, arms: Sequence[ArmJob], at_once: int) -> None:
        self.arms, self.at_once = arms, at_once
        self.left = [arm for arm in arms if arm.state != "done"]
        self.live: Live | None = None
        self._shown = 0.0

    def __enter__(self) -> "Board":
        if sys.stdout.isatty():
            self.live = Live(self._table(), console=Console(), auto_refresh=False, vertical_overflow="ellipsis")
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live is not None:
            self.live.update(self._table(), refresh=True)
            self.live.__exit__(*error)

    def changed(self, job: Job | None) -> None:
        """Show that a job ended, or, without one, how far the others are."""
        if self.live is not None:
            if job is not None or time.monotonic() - self._shown >= REFRESH:
                self._shown = time.monotonic()
                self.live.update(self._table(), refresh=True)
        elif job is not None:
            say(self._line(job))
        if job is not None and job.state == "failed":
            self._say(f"{job.name} failed; see {job.log}")

    def _say(self, text: str) -> None:
        self.live.console.print(text, markup=False) if self.live is not None else say(text)

    def _line(self, job: Job) -> str:
        if not isinstance(job, ArmJob):
            return f"{job.name}: {job.state} in {spoken(job.seconds)}"
        ended = sum(arm.state in ("done", "failed") for arm in self.left)
        rest = self.time_left()
        return (
            f"{job.name}: {job.state}{' (resumed)' if job.resumed else ''} in {spoken(job.seconds)}; {ended} of "
            f"{len(self.left)} runs{f', about {spoken(rest)} left' if rest else ''}"
        )

    def time_left(self) -> float | None:
        """Seconds that what is left will take, by the runs that were trained whole since the start; None before one."""
        took = [arm.seconds for arm in self.left if arm.state == "done" and not arm.resumed]
        if not took:
            return None
        mean = sum(took) / len(took)
        now = time.monotonic()
        rest = sum(max(mean - (now - arm.began), 0) for arm in self.left if arm.state == "running")
        return (rest + mean * sum(arm.state == "waiting" for arm in self.left)) / self.at_once

    def _table(self) -> Table:
        rest = self.time_left()
        title = f"about {spoken(rest)} left" if rest else None
        table = Table("arm", "seed", "state", "steps", "time", box=None, caption=title, caption_justify="left")
        for arm in self.arms:
            state = f"{arm.state}{' (resumed)' if arm.resumed and arm.state == 'running' else ''}"
            table.add_row(arm.arm.name, str(arm.arm.seed), state, _progress(arm), _clock(arm))
        return table


def steps_done(run: Path) -> int | None:
    """Optimizer steps that a run has logged, from the last line of its metrics.csv; None before there is one."""
    try:
        with (run / "metrics.csv").open("rb") as file:
            head = next(csv.reader([file.readline().decode()]))
            file.seek(max(file.seek(0, 2) - TAIL, 0))
            last = file.read().decode(errors="replace").splitlines()[-1]
        return int(float(next(csv.reader([last]))[head.index("step")]))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def spoken(seconds: float) -> str:
    """A span of time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _progress(arm: ArmJob) -> str:
    total = arm.inputs.steps
    run = arm.run if arm.state == "done" else arm.current if arm.state == "running" else None
    done = None if run is None else steps_done(run)
    return " of ".join(f"{count:,}" for count in (done, total) if count is not None)


def _clock(arm: ArmJob) -> str:
    if arm.state == "running":
        return spoken(time.monotonic() - arm.began)
    return spoken(arm.seconds) if arm.seconds else ""
