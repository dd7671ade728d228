"""Text files that appear whole or not at all. Knows nothing about what they hold."""

import os
from pathlib import Path

from ..errors import SetupError


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and move it there in one step.

    Raises:
        SetupError: the disk is full, or the folder cannot be written to; a file that was there before still is.
    """
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    except OSError as error:
        raise SetupError(
            f"{path}: this file cannot be written ({error.strerror or error}).\n"
            "  Fix: make room on the disk, or choose a folder that can be written to.\n"
            "  What was sampled and judged before is kept; the same command goes on from there."
        ) from error
    finally:
        if part.exists():
            part.unlink()
