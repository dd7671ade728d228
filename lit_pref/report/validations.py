"""What happened to every validation pair at every validation. Knows trajectories.parquet; computes nothing."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .continuation import chain
from .run import TRAJECTORIES, Run


class Validations:
    """The validations of one run, those of the runs that it continues included.

    A run that goes on takes the lines of the earlier one along; where it could not, they are read where they are.
    Files are read without partitioning, which would take ``beta=0.1`` in a folder's name for a column.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def _files(self) -> list[tuple[Path, np.ndarray]]:
        """File -> its steps, ascending, each step in one file: in that of the latest run that has it."""
        found: list[tuple[Path, np.ndarray]] = []
        first = np.inf
        for folder in chain(self.run.folder):
            path = folder / TRAJECTORIES
            try:
                steps = np.unique(pq.read_table(path, columns=["step"], partitioning=None)["step"].to_numpy())
            except (OSError, ValueError, KeyError, pa.ArrowException):
                continue
            if len(own := steps[steps < first]):
                found.append((path, own))
                first = own[0]
        return found[::-1]

    @cached_property
    def steps(self) -> np.ndarray:
        """(K,) optimizer steps after which there was a validation, ascending."""
        return np.concatenate([np.empty(0, np.int64), *(steps for _, steps in self._files)])

    def at(self, steps: np.ndarray, *columns: str) -> dict[str, np.ndarray] | None:
        """Columns of the lines of some steps; None where a column is not there."""
        tables = []
        for path, own in self._files:
            if not len(wanted := np.intersect1d(own, steps)):
                continue
            try:
                table = pq.read_table(path, columns=["step", *columns], partitioning=None)
            except (OSError, ValueError, KeyError, pa.ArrowException):
                return None
            if not {"step", *columns} <= set(table.column_names):
                return None
            tables.append(table.filter(pc.is_in(table["step"], pa.array(wanted))))
        if not tables:
            return None
        names = ["step", *columns]
        return {name: np.concatenate([_numbers(table, name) for table in tables]) for name in names}


def pairs_of(run: Run) -> str:
    """A name for the pairs that row numbers refer to."""
    data: Any = run.manifest.get("data")
    return json.dumps(data.get("val") if isinstance(data, dict) else None)


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    kind = np.int64 if name in ("step", "row") else np.float64
    column = table[name].combine_chunks()
    return column.fill_null(0 if kind is np.int64 else np.nan).to_numpy(zero_copy_only=False).astype(kind)
