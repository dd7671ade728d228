"""Tokenised pairs on disk, memory-mapped. Knows nothing about text, tokenizers or models.

A cache is a folder of flat arrays and a ``meta.json`` written last, which holds their checksums and what was said
about the rows when it was built. It is named by its content's fingerprint, so a changed source has another cache.
"""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ..batch import Pair
from ..paths import file_sha256, made
from .blocks import Block, packed

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
    """Write a cache folder of these pairs, as ``write_blocks`` does."""
    stream = iter(pairs)
    write_blocks(folder, (packed(some) for some in iter(lambda: list(islice(stream, 1000)), [])), meta)


def write_blocks(folder: Path, blocks: Iterable[Block], meta: dict[str, Any]) -> None:
    """Write a cache folder: first beside its place, then moved there in one step. Nobody else may be writing it.

    ``meta`` is read after the last block was taken, so a report that fills while rows stream through is complete.
    """
    for left_behind in folder.parent.glob(f"{folder.name}.part-*"):  # by a process that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    part = folder.with_name(folder.name + f".part-{os.getpid()}")
    part.mkdir(parents=True)
    try:
        ids, labels = _write_arrays(part, blocks)
        sums = {name: file_sha256(part / f"{name}.bin") for name in ARRAYS}
        (part / "meta.json").write_text(json.dumps({**meta, "ids": ids, "labels": labels, "sha256": sums}))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def lock(folder: Path) -> FileLock:
    """A lock beside the cache folder, so that two processes do not build the same cache."""
    return FileLock(str(made(folder.parent) / f"{folder.name}.lock"))


def _write_arrays(part: Path, blocks: Iterable[Block]) -> tuple[dict[int, str], list[tuple[str | None, ...]]]:
    """Write the arrays; return the names of the rows that have one, and the labels of all where there are any."""
    position = 0
    names: dict[int, str] = {}
    labels: list[tuple[str | None, ...]] = []
    with ExitStack() as stack:
        files = {name: stack.enter_context((part / f"{name}.bin").open("wb")) for name in ARRAYS}
        for block in blocks:
            files["tokens"].write(block.tokens)
            bounds = _bounds(block, position)
            files["bounds"].write(bounds.tobytes())
            files["rows"].write(block.rows)
            files["rewards"].write(block.rewards)
            position = int(bounds[-1, -1]) if len(bounds) else position
            names |= block.names
            labels += block.labels
    return names, labels


def _bounds(block: Block, position: int) -> np.ndarray:
    """(n, 4) where prompt, chosen, rejected start, and the end; the first pair starts at ``position``."""
    lengths = np.frombuffer(block.lengths, np.int64).reshape(-1, 3)
    ends = position + lengths.cumsum().reshape(-1, 3)
    return np.concatenate([ends[:, :1] - lengths[:, :1], ends], axis=1)


def _map(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    path = folder / f"{name}.bin"
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.empty(0, ARRAYS[name]).reshape([0, *shape[1:]])
    return np.memmap(path, ARRAYS[name], mode="r").reshape(shape)
