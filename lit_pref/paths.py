"""Where things are kept. Imports nothing heavy and makes no folder."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Folder of everything that can be built again: $LIT_PREF_CACHE, else ~/.cache/lit-pref."""
    return Path(os.environ.get("LIT_PREF_CACHE") or Path.home() / ".cache" / "lit-pref")
