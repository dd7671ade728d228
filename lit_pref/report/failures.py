"""What ``lit-pref compare`` planned and what came of it. Knows compare.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .arms import Arm, Omission


def planned(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The planned runs of compare folders, in order."""
    found = []
    for folder in folders:
        try:
            plan = json.loads((folder / "compare.json").read_text(encoding="utf-8", errors="replace"))
            lines = list(plan["arms"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found += [line for line in lines if isinstance(line, dict) and "name" in line]
    return found


def in_order(arms: Sequence[Arm], plan: Sequence[dict[str, Any]]) -> list[Arm]:
    """The arms in the order of the plan; those that are not in it come last."""
    names = list(dict.fromkeys(str(line["name"]) for line in plan))
    return sorted(arms, key=lambda arm: names.index(arm.name) if arm.name in names else len(names))


def failures(plan: Sequence[dict[str, Any]]) -> list[Omission]:
    """Planned runs that did not come to their end, and why."""
    found = []
    for line in plan:
        name = f"{line['name']}, seed {line.get('seed', '?')}"
        failure = line.get("failure")
        if isinstance(failure, dict):
            found.append(Omission(name, f"failed with exit code {failure.get('code')}: {failure.get('reason')}"))
        elif line.get("state") not in ("done", None):
            found.append(Omission(name, f"planned, but not done: {line['state']}"))
    return found
