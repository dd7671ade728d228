"""Plain lines and counted progress for people. Knows nothing about what they say, and imports nothing heavy."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

#: Where there is no terminal: seconds between two lines of one count.
SECONDS_BETWEEN_LINES = 10.0


#: Set by Lightning, torchrun and SLURM in the processes of a group.
RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


def say(text: str) -> None:
    """Print to standard output, at once, and from the first process only."""
    if all(os.environ.get(name, "0") == "0" for name in RANKS):
        print(text, flush=True)


@contextmanager
def counting(
    name: str, total: int | None = None, unit: str | None = None, done: int = 0
) -> Iterator[Callable[[int], None]]:
    """Show a named count while work goes on: a bar on a terminal, now and then a line elsewhere.

    Yields a function to call with the number of items done since the last call.

    Args:
        name: what is being done.
        total: items in all.
        unit: what the items are, to say how many are done a second.
        done: items that were done before; they count, but not for the speed.
    """
    if sys.stderr.isatty():
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        columns += [TextColumn("{task.fields[rate]}"), TimeElapsedColumn()]
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(name, total=total, completed=done, rate="")
            rate = _rate(unit)
            yield lambda count: progress.update(task, advance=count, rate=rate(count))
    else:
        yield _lines(name, total, unit, done)


def _lines(name: str, total: int | None, unit: str | None, done: int) -> Callable[[int], None]:
    last = time.monotonic()
    rate = _rate(unit)

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        speed = rate(count)
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES or done == total:
            last = time.monotonic()
            ending = ("" if total is None else f" of {total:,}") + (f" ({speed})" if speed else "")
            print(f"{name}: {done:,}{ending}", file=sys.stderr, flush=True)

    return advance


def _rate(unit: str | None) -> Callable[[int], str]:
    """Called with items done since the last call, says how many a second; nothing where they have no name."""
    start = time.monotonic()
    done = 0

    def rate(count: int) -> str:
        nonlocal done
        done += count
        return f"{done / max(time.monotonic() - start, 1e-9):,.1f} {unit}/s" if unit else ""

    return rate
