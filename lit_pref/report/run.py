"""One run as a report sees it: its manifest, configuration and last numbers. Knows the files of a run's folder."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..json_log import read_lines
from ..manifest import MANIFEST, read_manifest
from .discovery import METRICS
from .metrics_file import LastValidation, last_validation
from .refusals import Refusals, refusals_of

TRAJECTORIES = "trajectories.parquet"
MASS = "mass.json"
MOVED = "moved_rows.jsonl"
#: Files without which there is less to show, and what there is less of.
PARTS = {
    MANIFEST: "what it was trained on and whether it finished is not known, and was not checked",
    TRAJECTORIES: "no curves, distributions and similarities",
    MASS: "no tokens and masses",
    MOVED: "no rows that moved most",
}


@dataclass(frozen=True)
class Run:
    """What a run's folder says.

    Attributes:
        folder: of the run, ``version_N``.
        name: the folder, as short as it can be said.
        manifest: run.json; empty where there is none.
        config: config.yaml; empty where there is none.
        last: what metrics.csv says of the last validation.
        refusals: what judges said at it.
        gaps: sentences about what is missing.
    """

    folder: Path
    name: str
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]
    last: LastValidation
    refusals: Refusals
    gaps: tuple[str, ...] = field(default=())

    @property
    def seed(self) -> int | None:
        """Of the run; None where it is not known."""
        seed = self.manifest.get("seed", self.config.get("seed_everything"))
        return seed if isinstance(seed, int) and not isinstance(seed, bool) else None

    @property
    def objective(self) -> Mapping[str, Any]:
        """class_path and init_args."""
        found = self.manifest.get("objective") or _at(self.config, "model", "objective")
        return found if isinstance(found, Mapping) else {}

    @property
    def values(self) -> dict[str, float]:
        """tag -> number of the last validation."""
        return self.last.values | self.refusals.shares()

    def moved_rows(self) -> Iterator[dict[str, Any]]:
        """The lines of moved_rows.jsonl."""
        return read_lines(self.folder / MOVED)

    def mass(self) -> dict[str, Any]:
        """mass.json; empty where it cannot be read."""
        return _json(self.folder / MASS)


def read_run(folder: Path, name: str) -> Run:
    """Read a folder; what is missing or broken becomes a gap, never an error."""
    manifest = read_manifest(folder) or {}
    gaps = [
        f"{part} {'cannot be read' if (folder / part).exists() else 'is missing'}: {lost}"
        for part, lost in PARTS.items()
        if not (manifest if part == MANIFEST else (folder / part).is_file())
    ]
    try:
        last = last_validation(folder / METRICS)
    except (OSError, ValueError, KeyError) as error:
        last = LastValidation(None, {}, {})
        why = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        gaps.append(f"{METRICS} {why}: no numbers")
    gaps += [
        f"{tag} was last measured at step {at:,}, not at the last validation (step {last.step:,}), and is left out"
        for tag, at in last.stale.items()
        if not tag.startswith("judge/") and "change" not in tag
    ]
    return Run(folder, name, manifest, _yaml(folder / "config.yaml"), last, refusals_of(folder, last), tuple(gaps))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it is there
        found = yaml.load(path.read_text(encoding="utf-8", errors="replace"), loader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree
