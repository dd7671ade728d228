"""Verdicts on disk, for several processes at once. Knows nothing of judges but their fingerprints.

SQLite in write-ahead mode: readers do not wait for a writer, and a process that is killed leaves a sound file. The
folder has to be on a disk of this machine, or on a network disk that keeps SQLite's locks. Whatever goes wrong here
costs the cache, never the judging.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..console import say
from .base import LABELS, Item, Judge, Verdict, digest

BUSY_S = 60.0  # how long a process waits for another one's write
_TABLE = """
CREATE TABLE IF NOT EXISTS verdicts (
    key TEXT PRIMARY KEY, asked TEXT NOT NULL, label TEXT NOT NULL, score REAL, raw TEXT NOT NULL,
    reason TEXT NOT NULL, judge TEXT NOT NULL
) WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS asked ON verdicts (asked)"


class VerdictCache:
    """Verdicts by judge and texts; `error` is never kept.

    Args:
        path: the database; made if need be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._off = False

    def get(self, judge: Judge, items: Sequence[Item]) -> list[Verdict | None]:
        """What is known of each item; an output that an older parser read is read again by the judge."""
        found: list[Verdict | None] = [None] * len(items)
        _ = judge.fingerprint, judge.asking  # may read a model's files, whose failures are not the cache's
        with self._guarded("read") as connection:
            if connection is not None:
                for i, item in enumerate(items):
                    found[i] = _look_up(connection, judge, item)
        return found

    def put(self, judge: Judge, items: Sequence[Item], verdicts: Sequence[Verdict]) -> None:
        """Keep verdicts, all in one transaction."""
        rows = [
            (key(judge.fingerprint, item), key(judge.asking, item), v.label, v.score, _storable(v.raw),
             _storable(v.reason), v.judge)
            for item, v in zip(items, verdicts, strict=True)
            if v.label != "error"
        ]  # fmt: skip
        with self._guarded("written") as connection:
            if connection is not None and rows:
                with connection:
                    connection.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    @contextlib.contextmanager
    def _guarded(self, done: str) -> Iterator[sqlite3.Connection | None]:
        """The open database, or None where it cannot be used; a sentence is said once."""
        with self._lock:
            connection = None
            try:
                connection = self._open()
            except (sqlite3.Error, OSError) as error:
                self._failed(done, error)
            try:
                yield connection
            except (sqlite3.Error, OSError) as error:
                self._failed(done, error)

    def _failed(self, done: str, error: Exception) -> None:
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if damaged and self._connection is not None:
            self._connection.close()
            self._connection = None
            self._set_aside(error)
        else:  # read-only, a full disk, locked for too long
            self._give_up(done, error)

    def _give_up(self, done: str, error: Exception) -> None:
        if not self._off:
            say(f"{self.path}: verdicts cannot be {done} ({error}). Judging goes on without keeping them.")
        self._off, self._connection = True, None

    def _open(self) -> sqlite3.Connection | None:
        if self._off:
            return None
        if self._connection is None or self._process != os.getpid():  # a connection does not survive a fork
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f"{self.path.name}.lock")):  # the switch to WAL is not for two at once
                try:
                    self._connection = _connected(self.path)
                except sqlite3.OperationalError:
                    raise
                except sqlite3.DatabaseError as error:
                    self._move(error)
                    self._connection = _connected(self.path)
            self._process = os.getpid()
        return self._connection

    def _set_aside(self, error: Exception) -> None:
        """A file found damaged in use: moved, unless another process has done so in the meantime."""
        try:
            with FileLock(self.path.with_name(f"{self.path.name}.lock")):
                try:
                    connection = _connected(self.path)
                    sound = connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
                    connection.close()
                except sqlite3.DatabaseError:
                    sound = False
                if not sound:
                    self._move(error)
        except OSError as failure:
            self._give_up("kept", failure)

    def _move(self, error: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        self.path.replace(aside)
        for ending in ("-wal", "-shm"):  # they belong to the old file, and would damage the new one
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        say(f"{self.path}: this cache of verdicts is damaged ({error}); it is now {aside.name}, and a new one begins.")


def key(fingerprint: str, item: Item) -> str:
    """Name of what a judge says about an item."""
    return digest({"fingerprint": fingerprint, "prompt": item.prompt, "response": item.response})


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # sound after a kill; a power cut may lose the last batch
        with connection:
            connection.execute(_TABLE)
            connection.execute(_INDEX)
        connection.execute("SELECT key, asked, label, score, raw, reason, judge FROM verdicts LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _look_up(connection: sqlite3.Connection, judge: Judge, item: Item) -> Verdict | None:
    columns = "SELECT label, score, raw, reason, judge FROM verdicts WHERE"
    row = connection.execute(f"{columns} key = ?", (key(judge.fingerprint, item),)).fetchone()
    if row is not None and row[0] in LABELS:
        return Verdict(*row)._replace(cached=True)
    for other in connection.execute(f"{columns} asked = ?", (key(judge.asking, item),)).fetchall():
        verdict = judge.reread(other[2])
        if verdict is not None and verdict.label != "error":
            return verdict._replace(cached=True)
    return None


def _storable(text: str) -> str:
    """A half of a surrogate pair, which a model can write, is no UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
