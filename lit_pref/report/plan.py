"""What ``lit-pref compare`` planned and what came of it. Knows compare.json and the folders beside it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .omission import Omission

RECORD = "compare.json"


@dataclass(frozen=True)
class Plan:
    """The comparison of one folder, as it was planned last.

    Attributes:
        folder: that holds compare.json.
        lines: a planned run each, in order.
    """

    folder: Path
    lines: tuple[dict[str, Any], ...]

    @property
    def names(self) -> list[str]:
        """Of the arms, in order."""
        return list(dict.fromkeys(str(line["name"]) for line in self.lines))

    @property
    def runs(self) -> list[Path]:
        """The run that counts of every arm and seed that is done; those that it went on from are parts of it."""
        return [path for line in self.lines if (path := self._below(line.get("run"))) and path.is_dir()]

    def omissions(self) -> list[Omission]:
        """Planned runs that did not come to their end, and why; and how many folders are of no planned run."""
        found = []
        for line in self.lines:
            name = f"{line['name']}, seed {line.get('seed', '?')}"
            failure, run = line.get("failure"), self._below(line.get("run"))
            if isinstance(failure, dict):
                found.append(Omission(name, f"failed with exit code {failure.get('code')}: {failure.get('reason')}"))
            elif run is None:
                found.append(Omission(name, f"planned, but not done: {line.get('state', 'unknown')}"))
            elif not run.is_dir():
                found.append(Omission(name, "its folder is gone"))
        if earlier := self._earlier():
            are = "arm's folder is" if earlier == 1 else "arms' folders are"
            found.append(Omission("arms of an earlier plan", f"{earlier} {are} not in the plan that is reported"))
        return found

    def _earlier(self) -> int:
        planned = {path for line in self.lines if (path := self._below(line.get("folder")))}
        arms = self.folder / "arms"
        return sum(path.is_dir() and path not in planned for path in arms.iterdir()) if arms.is_dir() else 0

    def _below(self, path: object) -> Path | None:
        """A path that the file names, if it lies below the folder."""
        if not isinstance(path, str) or "\0" in path or Path(path).is_absolute() or ".." in Path(path).parts:
            return None
        return self.folder / path


def read_plan(folder: Path) -> Plan | None:
    """The plan of a folder; None where there is none that can be read, or one that names no runs."""
    try:
        lines = json.loads((folder / RECORD).read_text(encoding="utf-8", errors="replace"))["arms"]
        named = tuple(line for line in lines if isinstance(line, dict) and {"name", "folder"} <= line.keys())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Plan(folder, named) if named else None
