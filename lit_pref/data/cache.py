"""Tokenised pairs on disk, memory-mapped. Knows nothing about text, tokenizers or models.

A cache is a folder of flat arrays and a ``meta.json`` written last, which holds their checksums and what was said
about the rows when it was built. It is named by its content's fingerprint, so a changed source has another cache.
"""

import json
import os
import shutil
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ..batch import Pair
from ..paths import file_sha256, made

ARRAYS = {"tokens": np.int32, "bounds": np.int64, "rows": np.int64, "rewards": np.float32}


class CachedPairs(Sequence[Pair]):
    """Pairs of token ids read from a cache folder without loading it into memory.

    Args:
        folder: a folder that ``write`` made.

    Raises:
        ValueError: the folder is incomplete or its bytes are not those that were written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
            self.ids: dict[str, str] = self.meta["ids"]  # by row, where the data name their rows
            self.labels: list[list[str | None]] = self.meta["labels"]  # by position, where the data have them
            for name in ARRAYS:
                if file_sha256(folder / f"{name}.bin") != self.meta["sha256"][name]:
                    raise ValueError(f"{folder / name}.bin does not hold the bytes that were written")
        except (OSError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder} is not a complete cache: {error}") from error
        self.tokens = _map(folder, "tokens", (-1,))
        self.bounds = _map(folder, "bounds", (-1, 4))  # where prompt, chosen, rejected start, and the end
        self.rows = _map(folder, "rows", (-1,))
        self.rewards = _map(folder, "rewards", (-1, 2))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        a, b, c, d = self.bounds[index].tolist()
        chosen, rejected = (None if np.isnan(value) else float(value) for value in self.rewards[index])
        prompt, first, second = (self.tokens[i:j].tolist() for i, j in ((a, b), (b, c), (c, d)))
        row = int(self.rows[index])
        labels = tuple(self.labels[index]) if self.labels else ()
        return Pair(row, prompt, first, second, chosen, rejected, self.ids.get(str(row)), labels)

    @property
    def has_rewards(self) -> bool:
        """Whether every pair carries both rewards."""
        return not bool(np.isnan(self.rewards).any())


def write(folder: Path, pairs: Iterable[Pair], meta: dict[str, Any]) -> None:
    """Write a cache folder: first beside its place, then moved there in one step.

    ``meta`` is read after the last pair was taken, so a report that fills while rows stream through is complete.
    """
    part = folder.with_name(folder.name + f".part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        ids, labels = _write_arrays(part, pairs)
        sums = {name: file_sha256(part / f"{name}.bin") for name in ARRAYS}
        (part / "meta.json").write_text(json.dumps({**meta, "ids": ids, "labels": labels, "sha256": sums}))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def lock(folder: Path) -> FileLock:
    """A lock beside the cache folder, so that two processes do not build the same cache."""
    return FileLock(str(made(folder.parent) / f"{folder.name}.lock"))


def _write_arrays(part: Path, pairs: Iterable[Pair]) -> tuple[dict[int, str], list[tuple[str | None, ...]]]:
    """Write the arrays; return the names of the rows that have one, and the labels of all where there are any."""
    files = {name: (part / f"{name}.bin").open("wb") for name in ARRAYS}
    position = 0
    names = {}
    labels = []
    try:
        for pair in pairs:
            if pair.id is not None:
                names[pair.row] = pair.id
            if pair.labels:
                labels.append(pair.labels)
            ends = [position]
            for ids in (pair.prompt, pair.chosen, pair.rejected):
                files["tokens"].write(array("i", ids).tobytes())
                ends.append(ends[-1] + len(ids))
            position = ends[-1]
            rewards = [np.nan if r is None else r for r in (pair.chosen_reward, pair.rejected_reward)]
            files["bounds"].write(array("q", ends).tobytes())
            files["rows"].write(array("q", [pair.row]).tobytes())
            files["rewards"].write(array("f", rewards).tobytes())
    finally:
        for file in files.values():
            file.close()
    return names, labels


def _map(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    path = folder / f"{name}.bin"
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.empty(0, ARRAYS[name]).reshape([0, *shape[1:]])
    return np.memmap(path, ARRAYS[name], mode="r").reshape(shape)
