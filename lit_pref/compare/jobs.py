"""Processes of ``lit-pref``, some at a time. Knows how they start and end; what they compute, their jobs know.

A job is started again as often as it asks for it. Whoever is ended from outside leaves what a later start goes on from.
"""

import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from ..experiments.failure import Failure

#: Seconds between two looks at what runs.
PAUSE = 0.2
#: Seconds that a process has to end by itself.
GRACE = 15.0


class Job(ABC):
    """One process, and what becomes of it.

    Attributes:
        state: waiting, running, done, failed.
        name: for people.
        log: file of what it prints.
        seconds: from start to end.
        failure: why it failed.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.state, self.name, self.log = "waiting", name, log
        self.began = self.seconds = 0.0
        self.failure: Failure | None = None

    @abstractmethod
    def arguments(self) -> list[str]:
        """Words of ``lit-pref``; called when it starts."""

    @abstractmethod
    def ended(self, code: int) -> bool:
        """Called with its exit code; sets ``state`` and ``failure``, and returns whether to start again."""


def run_jobs(jobs: Sequence[Job], at_once: int, changed: Callable[[Job | None], None], lock: int | None = None) -> None:
    """Run all jobs, in order.

    Args:
        jobs: what to run.
        at_once: processes at a time.
        changed: called with a job that ended, and with None every now and then.
        lock: descriptor of a locked file that processes hold on to, so that it stays locked while any of them lives.
    """
    waiting = deque(jobs)
    running: dict[Job, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.popleft()
                running[job] = _started(job, at_once, lock)
            changed(None)
            time.sleep(PAUSE)
            for job, process in list(running.items()):
                if (code := process.poll()) is not None:
                    del running[job]
                    job.seconds = time.monotonic() - job.began
                    if job.ended(code):
                        waiting.appendleft(job)
                    else:
                        changed(job)
    finally:
        end(list(running.values()))


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask processes to end, and end those that do not."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(until - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _started(job: Job, at_once: int, lock: int | None) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment.pop("LIT_PREF_RUN_DIR", None)
    if at_once > 1:  # else every process would take all cores
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        environment.setdefault("OMP_NUM_THREADS", str(max(cores // at_once, 1)))
    job.log.parent.mkdir(parents=True, exist_ok=True)
    words = job.arguments()
    job.state, job.began = "running", time.monotonic()
    with job.log.open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lit_pref", *words], stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, env=environment, pass_fds=() if lock is None else (lock,),
        )  # fmt: skip
