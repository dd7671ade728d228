"""How a command ends where it cannot go on: a few lines and an exit code, no traceback. Knows no command."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import PrefError


@contextmanager
def plain_end(interrupted: str | None = None) -> Iterator[None]:
    """Turn a failure that the user can mend into its text and exit code, and Ctrl-C into a sentence and 130.

    Args:
        interrupted: what is kept after Ctrl-C; None leaves Ctrl-C to who calls.
    """
    try:
        yield
    except PrefError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        if interrupted is None:
            raise
        sys.stderr.write(f"{interrupted}\n")
        sys.exit(130)
