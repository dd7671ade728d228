"""The files of a scoring run: one shard a window while it goes on, one Parquet file when it is over.

Knows tables, plans and folders; nothing about models, tensors or processes.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from ..console import say
from ..errors import ConfigError, SetupError
from ..parquet_log import write_parquet
from .plan import Plan, differences

#: Key of the plan in the metadata of a Parquet file.
METADATA = b"lit_pref.plan"


class Shards:
    """Where the scores of one ``--out`` are gathered.

    Args:
        out: the Parquet file to be.

    Raises:
        ConfigError: it has another ending, or is a folder.
        SetupError: its folder cannot be made or written to.
    """

    def __init__(self, out: str) -> None:
        self.out = Path(out).expanduser()
        self._lock: FileLock | None = None
        if self.out.suffix != ".parquet" or self.out.is_dir():
            why = "is a folder" if self.out.is_dir() else "does not end in .parquet"
            raise ConfigError(f"--out {out}: this {why}.\n  Fix: give the file to write, e.g. --out scores.parquet.")
        self.folder = self.out.with_name(f"{self.out.name}.parts")
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            probe = self.out.with_name(
                f"{self.out.name}.probe-{os.getpid()}"
            )  # some folders only say they can be written
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise self._unwritable(error.strerror) from error
        if not os.access(self.out.parent, os.W_OK):
            raise self._unwritable("it is read-only")

    def open(self, plan: Plan, rows: Sequence[range], overwrite: bool) -> list[int] | None:
        """Numbers of the windows that are yet to be measured; None where the finished file is there.

        Args:
            plan: what decides the values.
            rows: places of the pairs of each window.
            overwrite: whether a finished file of another plan may be replaced.
        """
        if self.out.exists():
            held = plan_of(self.out)
            total = sum(map(len, rows))
            if held == plan and pq.read_metadata(self.out).num_rows == total:
                say(f"{self.out}: the scores of all {total:,} pairs are there; nothing is computed again.")
                self._remove()
                return None
            if not overwrite:
                raise self._taken(held, plan)
        self._claim(plan)
        missing = [i for i, window in enumerate(rows) if not self._whole(i, len(window), plan)]
        if len(missing) < len(rows):
            say(f"{self.out}: continuing: {len(rows) - len(missing):,} of {len(rows):,} shards are there.")
        return missing

    def write(self, number: int, table: pa.Table) -> None:
        """Keep the lines of one window; SetupError where they cannot be written."""
        try:
            write_parquet(table, self._shard(number))
        except SetupError as error:
            kept = len(list(self.folder.glob("*.parquet")))
            raise SetupError(f"{error}\n  {kept:,} shards are kept; the same command continues from them.") from error

    def finish(self, plan: Plan, count: int, constants: dict[str, str]) -> pa.Table:
        """Make one file of all shards, in one step, and remove them.

        Args:
            plan: goes into the file's metadata.
            count: how many shards there are.
            constants: columns whose value is the same in every line; they come first.
        """
        table = pa.concat_tables([pq.read_table(self._shard(i)) for i in range(count)])
        for place, (name, value) in enumerate(constants.items()):
            table = table.add_column(place, name, pa.array([value] * len(table)))
        table = table.replace_schema_metadata({METADATA: json.dumps(plan)})
        try:
            write_parquet(table, self.out)
        except SetupError as error:
            raise SetupError(f"{error}\n  All {count:,} shards are kept; the same command continues.") from error
        self._remove()
        return table

    def close(self) -> None:
        """Let others write here; whatever is unfinished stays."""
        if self._lock is not None:
            self._lock.release()

    def _shard(self, number: int) -> Path:
        return self.folder / f"{number:06}.parquet"

    def _claim(self, plan: Plan) -> None:
        """Make the folder of shards one of this plan, held by this process."""
        written = self.folder / "plan.json"
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = FileLock(self.folder / "lock")
            self._lock.acquire(timeout=0)
            held = _read_json(written)
            if held != plan:
                shards = list(self.folder.glob("*.parquet"))
                if shards:
                    what = differences(held, plan) if held else "its plan cannot be read"
                    say(f"{self.folder}: {len(shards):,} shards of another plan are discarded (other: {what}).")
                for path in shards:
                    path.unlink()
                part = written.with_suffix(".part")
                part.write_text(json.dumps(plan, indent=1))
                part.replace(written)
        except Timeout as error:
            raise ConfigError(
                f"{self.folder}: another lit-pref score is writing here.\n  Fix: wait for it, or give another --out."
            ) from error
        except OSError as error:
            raise self._unwritable(error.strerror) from error

    def _whole(self, number: int, lines: int, plan: Plan) -> bool:
        """Whether a shard is there, readable to its last byte, and of the right length."""
        path = self._shard(number)
        if not path.exists():
            return False
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException):
            table = None
        if table is None or len(table) != lines or not set(plan["measures"]) <= set(table.column_names):
            say(f"{path}: this shard is damaged, and is computed again.")
            return False
        return True

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _taken(self, held: Plan | None, plan: Plan) -> ConfigError:
        what = "is not a file of scores"
        if held is not None:
            what = f"holds other scores: {differences(held, plan) or 'some pairs'} differ"
        return ConfigError(
            f"{self.out}: this file {what}.\n"
            "  Fix: give another --out, or replace it with --overwrite true.\n  It was left as it is."
        )

    def _unwritable(self, reason: str | None) -> SetupError:
        return SetupError(
            f"{self.out}: this file cannot be written ({reason}).\n"
            "  Fix: make room on the disk, or give an --out in a folder that can be written to."
        )


def plan_of(path: Path) -> Plan | None:
    """The plan that a Parquet file says it was made by; None where it says none or cannot be read."""
    try:
        return json.loads((pq.read_schema(path).metadata or {})[METADATA])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None


def _read_json(path: Path) -> Plan | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
