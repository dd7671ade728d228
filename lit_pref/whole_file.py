"""Files that appear whole or not at all. Knows how a file is put in its place; nothing of what it holds."""

import os
from collections.abc import Callable
from pathlib import Path

from .errors import SetupError

#: What is left where a file cannot be written.
KEPT = "What it held before is still there."


def write_whole(path: Path, write: Callable[[Path], object], kept: str = KEPT) -> None:
    """Write a file beside its place and move it there in one step; its folder is made if need be.

    A process that is killed leaves the old file. Nothing waits for the disk, so a power cut may still lose the new one.

    Args:
        path: of the file.
        write: writes everything to the path that it is given.
        kept: last line of the error.

    Raises:
        SetupError: the disk is full, or the folder cannot be written to; a file that was there before still is.
    """
    part = path.with_name(f"{path.name}.part-{os.getpid()}")  # another process may write the same file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        part.replace(path)
    except OSError as error:
        raise SetupError(
            f"{path}: this file cannot be written ({error.strerror or error}).\n"
            "  Fix: make room on the disk, or choose a folder that can be written to.\n"
            f"  {kept}"
        ) from error
    finally:
        if part.exists():  # no unlink(missing_ok): where the folder is none, that is an error of its own
            part.unlink()


def write_text(path: Path, text: str, kept: str = KEPT) -> None:
    """The same for UTF-8 text; lines end as they do in the text, on every system."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8", newline="\n"), kept)
