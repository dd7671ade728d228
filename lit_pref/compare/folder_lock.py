"""One comparison at a time in one folder. Knows a locked file; nothing of what works there.

The lock is the processes' too, so that those whose parent was killed still hold it: two runs never share an arm.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError, SetupError

#: Seconds that what was killed a moment ago has to let go.
PATIENCE = 3.0


@contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Hold the lock of a folder; yields its descriptor for processes to hold it too, None where there are no locks.

    Raises:
        ConfigError: something else holds it.
        SetupError: the folder cannot be written to.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield None
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        raise SetupError(f"--out {folder}: this folder cannot be written to ({error.strerror}).") from error
    until = time.monotonic() + PATIENCE
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ConfigError(
                        f"--out {folder}: another lit-pref compare, or runs that one left behind, work in this folder."
                        "\n  Fix: wait for them or end them, or choose another --out. Nothing was changed."
                    ) from None
                time.sleep(0.1)
        yield file.fileno()
