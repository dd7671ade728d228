"""The manifest of a run, run.json: what ran, on what, from where, and how it ended. Knows a file; imports no torch."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from .whole_file import write_text

MANIFEST = "run.json"
#: Of the file; it changes where what is written there changes its meaning.
FORMAT = 1


def write_manifest(folder: Path, record: Mapping[str, Any]) -> None:
    """Put a run's manifest into its folder, whole; SetupError where it cannot be written.

    Args:
        folder: of the run.
        record: what ``callbacks.RunManifest`` knows of the run.
    """
    text = json.dumps({"format": FORMAT, **record}, indent=2, ensure_ascii=False, default=str)
    write_text(folder / MANIFEST, text.encode("utf-8", "replace").decode() + "\n")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """A run's manifest; None where there is none that can be read: runs of before there were manifests have none."""
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("format") == FORMAT else None


def rows_digest(rows: Iterable[int]) -> str:
    """A name for a set of rows: sha256 of their numbers in order, in decimals, with commas between."""
    return sha256(",".join(map(str, sorted(map(int, rows)))).encode()).hexdigest()


def run_folder_of(checkpoint: str | Path) -> Path:
    """The folder of the run that wrote a checkpoint: the nearest one above it that holds a run's files."""
    path = Path(checkpoint).expanduser().resolve()
    for folder in list(path.parents)[:3]:
        if any((folder / name).exists() for name in (MANIFEST, "config.yaml")):
            return folder
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent
