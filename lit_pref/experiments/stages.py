"""What experiments of several stages share: configurations laid over each other, names of them, commands in turn.

Knows dictionaries, files and command lines; nothing about what a stage does. Imports no torch.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from json import dumps, loads
from pathlib import Path
from typing import Any

import yaml

from ..paths import file_sha256
from .failure import Failure


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Values of ``change`` laid over those of ``base``; another class takes nothing of the old one's arguments."""
    result = dict(base)
    for key, value in change.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            same = value.get("class_path", old.get("class_path")) == old.get("class_path")
            result[key] = merged(old, value) if same else value
        else:
            result[key] = value
    return result


def filled(value: Any, seed: int) -> Any:
    """The value with every "{seed}" in its texts replaced."""
    if isinstance(value, str):
        return value.replace("{seed}", str(seed))
    if isinstance(value, dict):
        return {key: filled(item, seed) for key, item in value.items()}
    return [filled(item, seed) for item in value] if isinstance(value, list) else value


def stage(run: Callable[[Sequence[str], Path], int], arguments: list[str], log: Path) -> None:
    """Run a command; PrefError with its reason and its exit code where it fails."""
    if code := run(arguments, log):
        raise Failure.of(code, log).error(f"lit-pref {arguments[0]} failed:")


def written(path: Path, config: dict[str, Any]) -> str:
    """The name of a YAML file that holds a configuration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return str(path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a whole JSONL file; U+2028 and its like, which end lines elsewhere, are text inside of them."""
    with path.open(encoding="utf-8") as file:
        return [loads(line) for line in file]


def digest(value: Any) -> str:
    """A short name for a value."""
    return sha256(dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def contents(files: Sequence[Path]) -> str:
    """A name for the bytes of some files."""
    return digest([file_sha256(path) for path in files])
