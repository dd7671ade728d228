"""From what the user wrote (a file, a folder, a hub name) to the files behind it.

Opens nothing; knows nothing about formats, rows or columns.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

from .rows import DataError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
# A missing path with one of these endings is a missing file, never the name of a data set on the hub.
_FILE_ENDINGS = (*SUFFIXES, ".gz", ".txt", ".tsv", ".zip", ".zst", ".bz2", ".xz", ".arrow", ".xlsx", ".pt")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
# How a file name starts to say which split it holds; "values.csv" and "device.csv" say nothing.
_SPLITS = {
    "train": re.compile(r"train(ing)?(?![a-z])", re.IGNORECASE),
    "validation": re.compile(r"(validation|valid|val|dev)(?![a-z])", re.IGNORECASE),
    "test": re.compile(r"test(ing)?(?![a-z])", re.IGNORECASE),
}
_FORMATS = "JSONL, JSON, CSV or Parquet (.jsonl, .json, .csv, .parquet, each also .gz)"


class Source(NamedTuple):
    """Where rows come from."""

    kind: Literal["files", "saved", "hub"]  # "saved": a folder written by `Dataset.save_to_disk`
    name: str  # as the user wrote it
    split: str
    files: list[Path]  # in reading order; empty for the hub


def resolve(source: str, split: str = "train") -> Source:
    """Say what a source is, or raise a DataError that says what is missing."""
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(source, path, split)
    if path.exists():
        if suffix(path) not in SUFFIXES:
            raise DataError.of_file(
                "unknown-format", path, "this kind of file cannot be read.", f"save it as {_FORMATS}"
            )
        return Source("files", source, split, [path])
    if not _HUB_NAME.fullmatch(source) or _means_a_file(path, source):
        raise _missing(path, source)
    return Source("hub", source, split, [])


def suffix(path: Path) -> str:
    """The ending that names the format, below a possible `.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _folder(source: str, path: Path, split: str) -> Source:
    if (path / "dataset_dict.json").exists():
        splits = sorted(p.name for p in path.iterdir() if (p / "state.json").exists())
        if split not in splits:
            raise _no_split(path, split, splits)
        return Source("saved", source, split, sorted((path / split).glob("*.arrow")))
    if (path / "state.json").exists() and (path / "dataset_info.json").exists():
        return Source("saved", source, split, sorted(path.glob("*.arrow")))
    files = sorted(p for p in path.iterdir() if p.is_file() and suffix(p) in SUFFIXES and _is_data(p))
    if not files:
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
        raise DataError.of_file(
            "no-data-files", path, f"no data file in this folder; it holds {inside}.", f"add {_FORMATS}"
        )
    named = {p: _split_of(p) for p in files}
    if split not in _SPLITS:
        wanted = [p for p in files if p.name.startswith(split)]
    elif any(named.values()):
        wanted = [p for p in files if named[p] == split]
    else:
        wanted = files if split == "train" else []  # files that name no split are training data
    if not wanted:
        raise _no_split(path, split, sorted({name for name in named.values() if name}) or ["train"])
    return Source("files", source, split, wanted)


def _is_data(path: Path) -> bool:
    return not path.name.startswith((".", "dataset_info"))  # dataset_infos.json describes data on the hub


def _split_of(path: Path) -> str | None:
    return next((split for split, start in _SPLITS.items() if start.match(path.name)), None)


def _no_split(path: Path, split: str, splits: list[str]) -> DataError:
    return DataError.of_file(
        "no-such-split",
        path,
        f'this folder has no data for the split "{split}"; it has {", ".join(splits) or "none"}.',
        "name one of its splits, or add files whose names start with the split",
    )


def _means_a_file(path: Path, source: str) -> bool:
    """Whether a missing source is a path with a mistake in it rather than a name on the hub."""
    return source.startswith((".", "~")) or source.endswith(_FILE_ENDINGS) or path.parent.is_dir()


def _missing(path: Path, source: str) -> DataError:
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, siblings, 1)
    fix = f"did you mean {path.parent / near[0]}" if near else "check the path"
    fix += f", from the folder {Path.cwd()}" if not path.is_absolute() else ""
    return DataError.of_file(
        "no-such-file", source, "no such file or folder.", f"{fix}; a hub data set is written owner/name"
    )
