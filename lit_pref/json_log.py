"""A file of JSON lines that a run adds to, and that a restart takes along. Knows nothing about what its lines mean."""

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from .console import say
from .errors import SetupError
from .run_file import RunFile


class JsonLog(RunFile):
    """One file of a run's folder; only ever appended to, so that a kill loses nothing but a torn last line."""

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines.

        Raises:
            SetupError: the file cannot be written.
        """
        if not self.writes:
            return
        assert self.path is not None, "open was not called"
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(text.encode("utf-8", "replace"))
        except OSError as error:
            raise SetupError(
                f"{self.path}: this file cannot be written ({error.strerror or error}).\n"
                "  Fix: make room on the disk, or choose a folder that can be written to."
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Where the lines are, how many bytes of them there were at this moment, and a digest of them."""
        if not self.writes or self.path is None or not self.path.exists():
            return {"path": "", "bytes": 0}
        held = self.path.read_bytes()
        return {"path": str(self.path.resolve()), "bytes": len(held), "digest": sha256(held).hexdigest()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the lines that were there when the state was taken, and no later ones; called after ``open``."""
        if not self.writes or not state["path"]:
            return
        assert self.path is not None, "open was not called"
        for path in self.candidates(state["path"]):
            try:
                with path.open("rb") as file:
                    earlier = file.read(state["bytes"])
            except OSError:
                continue
            if sha256(earlier).hexdigest() == state["digest"]:  # else another run took the name of the folder
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_bytes(earlier)
                self.taken = path
                return
        say(f"{state['path']} no longer holds the lines of the checkpoint, so {self.path} begins at this restart.")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file, none where it does not exist; a line that a kill tore is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line
