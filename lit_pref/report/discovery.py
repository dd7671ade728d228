"""Where runs lie below the folders that were named. Knows folders and file names; reads no numbers."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError
from ..manifest import MANIFEST
from .plan import RECORD, Plan, read_plan

METRICS = "metrics.csv"


class Found(NamedTuple):
    """What there is to report.

    Attributes:
        folders: of runs, in the order in which they were named; of a planned comparison, those that count.
        home: the folder above all of them.
        plans: of the comparisons among them.
    """

    folders: tuple[Path, ...]
    home: Path
    plans: tuple[Plan, ...] = ()

    def name(self, folder: Path) -> str:
        """A run's folder as short as it can be said; that of a planned run is its arm's."""
        planned = any(folder in plan.runs for plan in self.plans)
        return str((folder.parent if planned else folder).relative_to(self.home))


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
    plans: dict[Path, Plan] = {}
    for path in paths:
        if not path.expanduser().is_dir():
            raise ConfigError(f"{path}: there is no such folder.\n  Fix: name folders of runs, e.g. runs/dpo/version_0")
        below = _below(path.expanduser().resolve(), plans)
        if not below:
            raise ConfigError(_nothing(path))
        folders |= dict.fromkeys(below)
    planned = {run for plan in plans.values() for run in plan.runs}
    home = Path(os.path.commonpath([*plans, *(folder for folder in folders if folder not in planned)]))
    return Found(tuple(folders), home.parent if home in folders else home, tuple(plans.values()))


def _nothing(path: Path) -> str:
    if (path.expanduser() / RECORD).is_file():
        return (
            f"{path}: no run of this comparison has come to its end.\n"
            "  Fix: start its `lit-pref compare` again, which goes on where it was."
        )
    return (
        f"{path}: there is no run in it.\n  Fix: name a folder that holds config.yaml and metrics.csv, or one above "
        "such folders."
    )


def _below(folder: Path, plans: dict[Path, Plan]) -> list[Path]:
    """Run folders in the order of their names, numbers as numbers; runs hold no further runs.

    Where a comparison was planned, its plan says which runs count; it is added to ``plans``.
    """
    if is_run(folder):
        return [folder]
    if plan := read_plan(folder):
        plans[folder] = plan
        return plan.runs
    found = []
    try:
        inside = sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=_natural)
    except OSError:
        return []
    for path in inside:
        if not path.is_symlink():  # a link up would never end
            found += _below(path, plans)
    return found


def version(folder: Path) -> int:
    """N of ``version_N``; -1 of another name."""
    head, _, number = folder.name.rpartition("_")
    return int(number) if head == "version" and number.isdecimal() else -1


def _natural(path: Path) -> tuple[str, int, str]:
    head, _, number = path.name.rpartition("_")
    return (head, int(number), "") if number.isdecimal() and len(number) < 19 else (path.name, -1, path.name)
