"""Where things are kept, and what lies there. Imports nothing heavy and makes no folder."""

import hashlib
import os
from pathlib import Path


def cache_root() -> Path:
    """Folder of everything that can be built again: $LIT_PREF_CACHE, else ~/.cache/lit-pref."""
    chosen = os.environ.get("LIT_PREF_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "lit-pref"


def file_sha256(path: Path) -> str:
    """Checksum of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
