"""Runs sorted into arms, and those that are not compared with the reason why. Knows runs; computes nothing."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.rows import DataError
from ..errors import ConfigError
from .continuation import chain
from .discovery import version
from .omission import Omission
from .run import Run
from .settings import objective_name, settings_of, told_apart, trained_on
from .texts import plain


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed alone.

    Attributes:
        name: of the arm, unlike any other.
        objective: its class or classes.
        settings: key -> value, see ``settings_of``.
        runs: seed -> run, seeds ascending.
    """

    name: str
    objective: str
    settings: Mapping[str, Any]
    runs: Mapping[int, Run]


def sort_arms(runs: Sequence[Run]) -> tuple[list[Arm], list[Omission]]:
    """Arms in the order of their first runs; of one arm and seed the newest version that finished in one folder.

    A run that another one of these goes on from is a part of that one, and is not listed apart.

    Raises:
        ConfigError: nothing is left to compare.
        DataError: two runs of one arm and seed lie in two folders, so neither is a newer version of the other.
    """
    omissions: list[Omission] = []
    kept: dict[tuple[str, int], Run] = {}
    wholes = _wholes(runs)
    apart = _trained_apart([run for run in wholes if not _unfit(run)])
    for run in wholes:
        key = _arm(run, apart), run.seed
        if (why := _unfit(run)) or key[1] is None:
            omissions.append(Omission(run.name, why or "its seed is not known, so it has no place beside other runs"))
            continue
        held = kept.get((key[0], key[1]))
        if held is not None and held.folder.parent != run.folder.parent:
            raise _twice(held, run)
        older, newer = (held, run) if held is None or version(held.folder) <= version(run.folder) else (run, held)
        kept[key[0], key[1]] = newer
        if older is not None:
            omissions.append(Omission(older.name, f"{newer.name} is newer, with the same arm and seed"))
    if not kept:
        raise ConfigError(
            "none of these runs can be compared:\n"
            + "\n".join(f"  {plain(name, 200)}: {plain(why, 200)}" for name, why in omissions[:20])
            + "\n  Fix: name runs of `lit-pref fit` that ended, with callbacks.Displacement and validation pairs."
        )
    return _named(kept, apart), omissions


def in_order(arms: Sequence[Arm], names: Sequence[str]) -> list[Arm]:
    """The arms in the order of a plan; those that are not in it come last."""
    return sorted(arms, key=lambda arm: names.index(arm.name) if arm.name in names else len(names))


def of_compare(folder: Path) -> re.Match[str] | None:
    """ARM and seed of ``OUT/arms/ARM_seedS/version_N``."""
    above = folder.parent
    return re.fullmatch(r"(.+)_seed(-?\d+)", above.name, re.DOTALL) if above.parent.name == "arms" else None


def _key(run: Run) -> str:
    if found := of_compare(run.folder):
        return f"{run.folder.parents[1]}\0{found[1]}"
    return json.dumps(settings_of(run), sort_keys=True, default=str)


def _trained_apart(runs: Sequence[Run]) -> set[str]:
    """Arms in which two runs of one seed trained on other pairs: their pairs are a setting, and part of the arm.

    Elsewhere they are not, as pairs may go with the seed.
    """
    known: dict[tuple[str, int | None], set[str]] = {}
    for run in runs:
        if (found := trained_on(run)) and not of_compare(run.folder):
            known.setdefault((_key(run), run.seed), set()).add(json.dumps(found))
    return {key for (key, _), found in known.items() if len(found) > 1}


def _arm(run: Run, apart: set[str]) -> str:
    key = _key(run)
    return f"{key}\0{json.dumps(trained_on(run))}" if key in apart else key


def _twice(one: Run, other: Run) -> DataError:
    return DataError(
        f"{plain(one.name, 200)} and {plain(other.name, 200)} have the same settings, training pairs and seed "
        f"{one.seed}, and neither is a newer version of the other.\n"
        "  Fix: name one of the two folders, or give the second run another seed.",
        ["run-twice"],
    )


def _wholes(runs: Sequence[Run]) -> list[Run]:
    """Without the runs that others go on from. A run that can stand alone does, unless one of its arm, and of its seed,
    took it to a later end: one that was trained further with other settings is another arm."""
    given = {run.folder.resolve(): run for run in runs}
    parts: set[Path] = set()
    for run in runs:
        for folder in (path.resolve() for path in chain(run.folder)[1:]):
            if (earlier := given.get(folder)) is None:
                continue
            same = not _unfit(run) and (_key(earlier), earlier.seed) == (_key(run), run.seed)
            if same or _unfit(earlier):
                parts.add(folder)
    return [run for folder, run in given.items() if folder not in parts]


def _unfit(run: Run) -> str | None:
    if run.manifest and not run.manifest.get("finished"):
        by = run.manifest.get("stopped_by")
        return f"unfinished: it ended by {by}" if by else "unfinished: it was killed, or runs still"
    if run.last.step is None:
        missing = next((gap for gap in run.gaps if gap.startswith("metrics.csv")), None)
        return missing or "metrics.csv holds no displacement of validation pairs"
    return None


def _named(kept: Mapping[tuple[str, int], Run], apart: set[str]) -> list[Arm]:
    groups: dict[str, dict[int, Run]] = {}
    for (key, seed), run in kept.items():
        groups.setdefault(key, {})[seed] = run
    firsts = [next(iter(runs.values())) for runs in groups.values()]
    settings = [settings_of(run) | (trained_on(run) if _key(run) in apart else {}) for run in firsts]
    objectives = [objective_name(run.objective) for run in firsts]
    compared = [of_compare(run.folder) for run in firsts]
    names = [match[1] if match else name for match, name in zip(compared, objectives, strict=True)]
    for name in set(names):
        places = [i for i, other in enumerate(names) if other == name and not compared[i]]
        for i, ending in zip(places, told_apart([settings[i] for i in places]), strict=True):
            names[i] = f"{name} {ending}".strip()
    arms: list[Arm] = []
    for name, objective, own, runs in zip(names, objectives, settings, groups.values(), strict=True):
        while name in {arm.name for arm in arms}:
            name += "′"
        arms.append(Arm(name, objective, own, dict(sorted(runs.items()))))
    return arms
