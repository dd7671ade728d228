"""Where things are kept. Imports nothing heavy and makes no folder."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Folder of everything that can be built again: $LIT_PREF_CACHE, else ~/.cache/lit-pref."""
    chosen = os.environ.get("LIT_PREF_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "lit-pref"
