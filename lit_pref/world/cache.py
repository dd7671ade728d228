"""Builds a folder once and finds it again. Knows nothing about what is in the folder."""

import hashlib
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from lit_pref.paths import cache_root, made

# What the built bytes depend on. names.py and cache.py may change without a rebuild.
SOURCES = ("agreement", "build", "judge", "onpolicy", "pretraining", "request", "sampling", "text", "tokenizer")
LIBRARIES = ("torch", "transformers", "tokenizers")


def fingerprint() -> str:
    """Changes when the world's sources or the libraries under it do; imports none of them, so it is instant."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    for library in LIBRARIES:
        digest.update(f"{library}={version(library)};".encode())
    return digest.hexdigest()[:12]


def built(name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name`, built if not there: one process builds, the others wait, nobody sees half of it."""
    folder = cache_root() / "world" / f"{name}-{fingerprint()}"
    if folder.is_dir():
        return folder
    made(folder.parent)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            unfinished = folder.with_name(f".{folder.name}.building")
            shutil.rmtree(unfinished, ignore_errors=True)  # left behind by a process that was killed
            unfinished.mkdir()
            build(unfinished)
            os.replace(unfinished, folder)
    return folder
