"""A file of a run's folder that a restart looks for again. Knows where it can be; nothing about what it holds."""

from pathlib import Path


class RunFile:
    """Base of files that one process of a run writes, and that a restart in another folder takes along.

    Args:
        name: file in the run's folder.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path: Path | None = None
        self.writes = False
        self.checkpoint: Path | None = None
        #: The earlier run's file whose lines this one begins with.
        self.taken: Path | None = None

    def open(self, folder: Path, writes: bool, checkpoint: str | Path | None = None) -> None:
        """Say where the file lies, whether this process writes it, and which checkpoint the run starts from."""
        self.path, self.writes = folder / self.name, writes
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.taken = None

    def candidates(self, written: str) -> list[Path]:
        """Where the file of the earlier run can be: beside its checkpoint, whose folder may have moved, then where it
        was written."""
        beside = [] if self.checkpoint is None else [folder / self.name for folder in self.checkpoint.parents[:3]]
        return [*beside, Path(written)]
