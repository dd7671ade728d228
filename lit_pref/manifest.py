"""The manifest of a run, run.json: what ran, on what, from where, and how it ended. Knows a file; imports no torch."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from .paths import file_sha256
from .whole_file import write_text

MANIFEST = "run.json"
#: Of the file; it changes where what is written there changes its meaning.
FORMAT = 1
#: Keys of a run's config.yaml that do not decide what is trained.
PLACES = ("run", "ckpt_path", "weights_only")
#: Names of keys whose files runs write to while they go on; what they hold says nothing of what was read.
WRITTEN = ("cache",)


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


def files_of(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Key of a configuration -> sha256 of the file that its value names, or None where that cannot be read.

    Any text that names a file counts: what a class reads is known to that class alone.

    Args:
        config: every key and value of a run, as in its config.yaml.
    """
    found: dict[str, str | None] = {}
    for key, text in _texts({key: value for key, value in config.items() if key not in PLACES}):
        path = os.path.expanduser(text)  # Path's own methods raise where a text is no path at all
        if os.path.isfile(path):
            try:
                found[key] = file_sha256(Path(path))
            except OSError:
                found[key] = None
    return found


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a configuration with its key, such as trainer.callbacks.0.init_args.prompts."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping | list):
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            if name not in WRITTEN:
                yield from _texts(item, f"{key}.{name}" if key else str(name))


def run_folder_of(checkpoint: str | Path) -> Path:
    """The folder of the run that wrote a checkpoint: the nearest one above it that holds a run's files."""
    path = Path(checkpoint).expanduser().resolve()
    for folder in list(path.parents)[:3]:
        if any((folder / name).exists() for name in (MANIFEST, "config.yaml")):
            return folder
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent
