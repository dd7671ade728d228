"""Work on chunks of a stream by all cores, with the results in the order of the stream.

Knows nothing about what the work is. The stream is read here, in one process, and never far ahead of the results.
"""

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing import connection, get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

from ..errors import SetupError

C = TypeVar("C")
R = TypeVar("R")

#: Streams of fewer chunks are worked on by this process alone.
CHUNKS_FOR_A_POOL = 16
#: More processes than this wait for the one that reads.
MOST_PROCESSES = 16

_work: Callable[[Any], Any]  # in the processes of a pool: what they do


def processes() -> int:
    """How many processes to share work among: one a core; a single one where forks are not safe."""
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES) if sys.platform == "linux" else 1


def worked(work: Callable[[C], R], chunks: Iterable[C], processes: int) -> Iterator[tuple[C, R]]:
    """Each chunk with what ``work`` makes of it, in order; what it raises is raised here, at its chunk.

    Args:
        work: its results are pickled, itself it is not.
        chunks: a stream; in memory are the first ``CHUNKS_FOR_A_POOL``, and later ``2 * processes`` at most.
        processes: to work in; with one, or few chunks, this process does the work.
    """
    failures: list[Exception] = []
    stream = _until_failure(chunks, failures)
    head = list(islice(stream, CHUNKS_FOR_A_POOL)) if processes > 1 else []
    if len(head) < CHUNKS_FOR_A_POOL:
        yield from ((chunk, work(chunk)) for chunk in chain(head, stream))
    else:
        yield from _shared(work, chain(head, stream), processes)
    if failures:
        raise failures[0]


def _until_failure(chunks: Iterable[C], failures: list[Exception]) -> Iterator[C]:
    """What can be read; the failure that ends it waits until what was read before is worked on."""
    try:
        yield from chunks
    except Exception as error:
        failures.append(error)


def _shared(work: Callable[[C], R], chunks: Iterable[C], processes: int) -> Iterator[tuple[C, R]]:
    with _pool(work, processes) as pool:
        waiting: deque[tuple[C, Future[R]]] = deque()
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_do, chunk)))
            if len(waiting) >= 2 * processes:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())


@contextmanager
def _pool(work: Callable[[Any], Any], processes: int) -> Iterator[ProcessPoolExecutor]:
    # Forks start at once and inherit the work, a tokenizer with code of its own for one; others would first import
    # transformers. They are as safe as those of a DataLoader: they compute on the CPU, in a single thread.
    pool = ProcessPoolExecutor(processes, get_context("fork"), _begin, (work,))
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads do not survive a fork, and cores are taken
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _finished(chunk: C, future: "Future[R]") -> tuple[C, R]:
    try:
        return chunk, future.result()
    except BrokenProcessPool as error:
        raise SetupError(
            "a process that worked on the data was ended from outside, most often because memory ran out.\n"
            "  Fix: give the machine more memory, or fewer cores by `taskset -c 0 lit-pref ...`."
        ) from error


def _begin(work: Callable[[Any], Any]) -> None:
    """In a new process: only the first one answers Ctrl-C, and all end with it, however it ends."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _do(chunk: Any) -> Any:
    return _work(chunk)
