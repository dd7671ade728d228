"""A Parquet file that grows by whole tables, each addition in one step. Knows nothing about what its columns mean."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .console import say
from .errors import SetupError


class ParquetLog:
    """One file of a run's folder; a restart in another folder takes the earlier lines along.

    Args:
        name: file in the run's folder.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path: Path | None = None
        self.writes = False

    def open(self, folder: Path, writes: bool) -> None:
        """Say where the file lies, and whether this process is the one that writes it."""
        self.path = folder / self.name
        self.writes = writes

    def append(self, columns: Mapping[str, Any]) -> None:
        """Add lines; the file is the old one or the new one at any moment, whatever happens.

        Args:
            columns: name -> values, arrays or lists of one length; the same names in every call.

        Raises:
            SetupError: the file cannot be written; what it held before is still there.
        """
        if self.writes:
            assert self.path is not None, "open was not called"
            table = pa.table(dict(columns))
            write_parquet(
                pa.concat_tables([pq.read_table(self.path), table]) if self.path.exists() else table, self.path
            )

    def state_dict(self) -> dict[str, Any]:
        """Where the lines are and how many of them there were at this moment."""
        if not self.writes or self.path is None or not self.path.exists():
            return {"path": None, "lines": 0}
        return {"path": str(self.path.resolve()), "lines": pq.read_metadata(self.path).num_rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the lines that were there when the state was taken, and no later ones; called after ``open``."""
        if not self.writes or state["path"] is None:
            return
        assert self.path is not None, "open was not called"
        try:
            earlier = pq.read_table(state["path"])
        except (OSError, pa.ArrowException):
            say(f"{state['path']} is no longer there, so {self.path} begins at this restart.")
            return
        write_parquet(earlier.slice(0, state["lines"]), self.path)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table beside its place and move it there in one step.

    Raises:
        SetupError: the disk is full, or the folder cannot be written to; a file that was there before still is.
    """
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, part, compression="zstd")
        part.replace(path)
    except OSError as error:
        raise SetupError(
            f"{path}: this file cannot be written ({error.strerror or error}).\n"
            "  Fix: make room on the disk, or choose a folder that can be written to.\n"
            "  What it held before is still there."
        ) from error
    finally:
        part.unlink(missing_ok=True)
