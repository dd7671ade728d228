"""A few threads that work through numbers. Knows nothing of the work."""

import queue
import threading
from collections.abc import Callable


def work_through(count: int, threads: int, work: Callable[[int], None], stop: threading.Event) -> None:
    """Call `work` with 0 .. count - 1 from several threads, in order of beginning; sets `stop` if interrupted.

    Daemon threads, and a main thread that waits in short steps: Ctrl-C ends the wait at once, and a request under
    way does not keep the program from ending.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(count):
        waiting.put(i)

    def run() -> None:
        while not stop.is_set():
            try:
                i = waiting.get_nowait()
            except queue.Empty:
                return
            work(i)

    started = [threading.Thread(target=run, daemon=True) for _ in range(min(threads, count))]
    try:
        for thread in started:
            thread.start()
        for thread in started:
            while thread.is_alive():
                thread.join(0.1)
    except BaseException:
        stop.set()
        raise
