"""Which runs one run goes on from. Knows what manifests say and that folders move; reads no numbers."""

from pathlib import Path

from ..manifest import read_manifest

_LONGEST_CHAIN = 100


def chain(folder: Path) -> list[Path]:
    """A run's folder, then that of the run it continues, and so on; the latter may have moved with the former."""
    found = [folder]
    while len(found) < _LONGEST_CHAIN:
        before = (read_manifest(found[-1]) or {}).get("continues")
        if not isinstance(before, str) or "\0" in before:
            break
        path = Path(before)
        path = path if path.is_dir() else found[-1].parent / path.name
        if not path.is_dir() or path in found:
            break
        found.append(path)
    return found
