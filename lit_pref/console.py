"""Plain lines and counted progress for people. Knows nothing about what they say, and imports nothing heavy."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

#: Where there is no terminal: seconds between two lines of one count.
SECONDS_BETWEEN_LINES = 10.0


#: Set by Lightning, torchrun and SLURM in the processes of a group.
RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


def say(text: str) -> None:
    """Print to standard output, at once, and from the first process only."""
    if all(os.environ.get(name, "0") == "0" for name in RANKS):
        print(text, flush=True)


@contextmanager
def counting(name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a named count while work goes on: a bar on a terminal, now and then a line elsewhere.

    Yields a function to call with the number of items done since the last call.
    """
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(name, total=total)
            yield lambda count: progress.update(task, advance=count)
    else:
        yield _lines(name, total)


def _lines(name: str, total: int | None) -> Callable[[int], None]:
    done = 0
    last = time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES or done == total:
            last = time.monotonic()
            print(f"{name}: {done:,}{'' if total is None else f' of {total:,}'}", file=sys.stderr, flush=True)

    return advance
