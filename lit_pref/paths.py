"""Where things are kept, and what lies there. Imports nothing heavy."""

import hashlib
import os
from pathlib import Path

from .errors import SetupError


def cache_root() -> Path:
    """Folder of everything that can be built again: $LIT_PREF_CACHE, else ~/.cache/lit-pref."""
    chosen = os.environ.get("LIT_PREF_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "lit-pref"


def file_sha256(path: Path) -> str:
    """Checksum of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def made(folder: Path) -> Path:
    """The folder of a cache, made if need be; SetupError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"{folder}: this folder of a cache cannot be made ({error.strerror}).\n"
            "  Fix: set LIT_PREF_CACHE to a folder that can be written to."
        ) from error
    return folder
