"""Plain lines and counted progress for people. Knows nothing about what they say."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities import rank_zero_only
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 60.0


@rank_zero_only
def say(text: str) -> None:
    """Print from the first process only, at once, to standard output."""
    print(text, file=sys.stdout, flush=True)


@contextmanager
def counting(name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a named count while work goes on: a bar on a terminal, a line a minute elsewhere.

    Yields a function to call with the number of items done since the last call.
    """
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, transient=True) as progress:
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
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{name}: {done:,}{'' if total is None else f' of {total:,}'}")

    return advance
