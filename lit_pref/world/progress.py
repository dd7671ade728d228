"""Shows that a loop is alive: a named bar on a terminal, plain lines elsewhere. Knows not what the loop does."""

import sys
from collections.abc import Iterator, Sequence

LINE_EVERY = 100  # steps between plain lines: enough to see life, too few to fill a log


def track(steps: Sequence[int], title: str) -> Iterator[int]:
    """Yield `steps` one by one, telling standard error how far they are."""
    return _bar(steps, title) if sys.stderr.isatty() else _lines(steps, title)


def _bar(steps: Sequence[int], title: str) -> Iterator[int]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(steps, description=title)


def _lines(steps: Sequence[int], title: str) -> Iterator[int]:
    for done, step in enumerate(steps, start=1):
        yield step
        if done % LINE_EVERY == 0 or done == len(steps):
            print(f"{title}: step {done} of {len(steps)}", file=sys.stderr, flush=True)
