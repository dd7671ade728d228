"""Where runs lie below the folders that were named. Knows folders and file names; reads no numbers."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError
from ..manifest import MANIFEST

METRICS = "metrics.csv"


class Found(NamedTuple):
    """Run folders, in the order in which they were named, and the folder above all of them."""

    folders: tuple[Path, ...]
    home: Path


def is_run(folder: Path) -> bool:
    """Whether a run wrote this folder."""
    named = folder.name.startswith("version_") and (folder / "config.yaml").is_file()  # it failed before it measured
    return named or any((folder / name).is_file() for name in (MANIFEST, METRICS))


def find(paths: Sequence[Path]) -> Found:
    """All run folders among and below some folders.

    Raises:
        ConfigError: a folder does not exist, or there is no run in it.
    """
    if not paths:
        raise ConfigError("no runs are named.\n  Fix: name folders, e.g. lit-pref report runs/dpo runs/simpo")
    folders: dict[Path, None] = {}
    for path in paths:
        if not path.expanduser().is_dir():
            raise ConfigError(f"{path}: there is no such folder.\n  Fix: name folders of runs, e.g. runs/dpo/version_0")
        below = list(_below(path.expanduser().resolve()))
        if not below:
            raise ConfigError(
                f"{path}: there is no run in it.\n  Fix: name a folder that holds config.yaml and metrics.csv, "
                "or one above such folders."
            )
        folders |= dict.fromkeys(below)
    found = tuple(folders)
    home = Path(os.path.commonpath(found))
    return Found(found, home.parent if home in folders else home)


def _below(folder: Path) -> list[Path]:
    """Run folders in the order of their names, numbers as numbers; runs hold no further runs."""
    if is_run(folder):
        return [folder]
    found = []
    try:
        inside = sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=_natural)
    except OSError:
        return []
    for path in inside:
        if not path.is_symlink():  # a link up would never end
            found += _below(path)
    return found


def version(folder: Path) -> int:
    """N of ``version_N``; -1 of another name."""
    head, _, number = folder.name.rpartition("_")
    return int(number) if head == "version" and number.isdecimal() else -1


def _natural(path: Path) -> tuple[str, int, str]:
    head, _, number = path.name.rpartition("_")
    return (head, int(number), "") if number.isdecimal() and len(number) < 19 else (path.name, -1, path.name)
