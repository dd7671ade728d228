"""Text files of sampled preferences, which appear whole or not at all. Knows nothing about what they hold."""

from pathlib import Path

from .. import whole_file


def write_text(path: Path, text: str) -> None:
    """Write a file in one step.

    Raises:
        SetupError: the disk is full, or the folder cannot be written to; a file that was there before still is.
    """
    whole_file.write_text(
        path, text, "What was sampled and judged before is kept; the same command goes on from there."
    )
