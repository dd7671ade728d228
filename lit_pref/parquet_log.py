"""A Parquet file that grows by whole tables, each addition in one step. Knows nothing about what its columns mean."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .console import say
from .run_file import RunFile
from .whole_file import write_whole


class ParquetLog(RunFile):
    """One file of a run's folder; a restart in another folder takes the earlier lines along."""

    def append(self, columns: Mapping[str, Any]) -> None:
        """Add lines; the file is the old one or the new one at any moment, whatever happens.

        Args:
            columns: name -> values, arrays or lists of one length; lines that lack a name of others are null there.

        Raises:
            SetupError: the file cannot be written; what it held before is still there.
        """
        if self.writes:
            assert self.path is not None, "open was not called"
            table = pa.table({name: _column(values) for name, values in columns.items()})
            if self.path.exists():
                table = pa.concat_tables([pq.read_table(self.path), table], promote_options="default")
            write_parquet(table, self.path)

    def state_dict(self) -> dict[str, Any]:
        """Where the lines are, how many of them there were at this moment, and a digest of them."""
        if not self.writes or self.path is None or not self.path.exists():
            return {"path": None, "lines": 0}
        table = pq.read_table(self.path)
        return {"path": str(self.path.resolve()), "lines": len(table), "digest": digest(table)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the lines that were there when the state was taken, and no later ones; called after ``open``.

        They are looked for beside the checkpoint, whose folder may have moved, and where they were written; a file
        that holds other lines is another run's.
        """
        if not self.writes or state["path"] is None:
            return
        assert self.path is not None, "open was not called"
        for path in self.candidates(state["path"]):
            try:
                earlier = pq.read_table(path).slice(0, state["lines"])
            except (OSError, pa.ArrowException):
                continue
            if digest(earlier) == state["digest"]:
                write_parquet(earlier, self.path)
                self.taken = path
                return
        say(f"{state['path']} no longer holds the lines of the checkpoint, so {self.path} begins at this restart.")


# pyarrow imports pandas before it converts anything, a third of a second before the first step; these two do not.
def _column(values: Any) -> Any:
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "iuf":
        return values
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def strings(values: Sequence[str | None]) -> pa.Array:
    """A column of strings, null where there is none."""
    texts = [(value or "").encode() for value in values]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    valid = np.packbits(np.array([value is not None for value in values], bool), bitorder="little")
    return pa.StringArray.from_buffers(len(texts), *map(pa.py_buffer, (ends, b"".join(texts), valid)))


def digest(table: pa.Table) -> str:
    """A name for the lines of a table, however they lie in memory."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks().replace_schema_metadata(None), sink, compression="none")
    return sha256(sink.getvalue()).hexdigest()


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table beside its place and move it there in one step.

    Raises:
        SetupError: the disk is full, or the folder cannot be written to; a file that was there before still is.
    """
    write_whole(path, lambda part: pq.write_table(table, part, compression="zstd"))
