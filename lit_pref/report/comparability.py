"""Whether runs may stand side by side, and what a reader should know where they may. Knows manifests alone."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ..data.rows import DataError
from .arms import Arm
from .omission import Omission
from .run import Run
from .texts import plain

#: What has to be equal within a seed: where it lies in run.json, and what it is called.
SAME = {
    ("policy",): "the initial policy",
    ("data", "val"): "the validation pairs",
    ("rows", "val"): "the rows of the validation pairs that were measured",
}
#: The same in config.yaml, of runs without a run.json. Equal names need not mean equal things, but others are others.
NAMED = {
    ("model", "policy", "path"): "the initial policy",
    ("model", "policy", "revision"): "the initial policy",
    ("data", "val_path"): "the validation pairs",
    ("data", "val_split"): "the validation pairs",
}


def check(arms: Sequence[Arm]) -> None:
    """Refuse runs of one seed that began elsewhere or were measured on other pairs.

    Raises:
        DataError: names two such runs and what differs.
    """
    for file, facts in (("run.json", SAME), ("config.yaml", NAMED)):
        first: dict[int, Run] = {}
        for seed, run in ((seed, run) for arm in arms for seed, run in arm.runs.items()):
            if not _facts(run, file):
                continue
            other = first.setdefault(seed, run)
            if file == "config.yaml" and run.manifest and other.manifest:
                continue  # fingerprints have said more
            for keys, what in facts.items():
                ours, theirs = (_at(_facts(one, file), keys) for one in (run, other))
                if ours != theirs:
                    raise _differing(other, run, seed, what, f"{'.'.join(keys)} in {file}", (theirs, ours))


def _facts(run: Run, file: str) -> Mapping[str, Any]:
    return run.manifest if file == "run.json" else run.config


def _differing(one: Run, other: Run, seed: int, what: str, where: str, values: tuple[object, object]) -> DataError:
    theirs, ours = (plain(value, 60) for value in values)
    return DataError(
        f"{plain(one.name, 200)} and {plain(other.name, 200)}, both of seed {seed}, cannot be compared: they differ in "
        f"{what} ({where}: {theirs} and {ours}).\n"
        "  Fix: report them apart, or train both from the same start and on the same validation pairs.",
        ["runs-not-comparable"],
    )


def remarks(arms: Sequence[Arm]) -> list[Omission]:
    """What is missing in runs that are compared, and in what arms differ beside their settings."""
    found = [Omission(run.name, gap) for arm in arms for run in arm.runs.values() for gap in run.gaps]
    for arm in arms:
        for run in arm.runs.values():
            by = run.manifest.get("stopped_by")
            if by not in (None, "max_steps", "max_epochs"):
                found.append(Omission(run.name, f"{by} stopped it after {run.manifest.get('steps', '?')} steps"))
    found += _seeds(arms)
    for keys, what in ((("data", "train"), "training pairs"), (("rows", "train"), "rows trained on at the start")):
        by_seed: dict[int, set[Any]] = {}
        for arm in arms:
            for seed, run in arm.runs.items():
                if run.manifest:
                    by_seed.setdefault(seed, set()).add(str(_at(run.manifest, keys)))
        if differing := [seed for seed, values in by_seed.items() if len(values) > 1]:
            found.append(Omission("arms", f"{what} differ between arms, at seeds {', '.join(map(str, differing))}"))
    steps = {arm.name: sorted({run.last.step or 0 for run in arm.runs.values()}) for arm in arms}
    if len({step for own in steps.values() for step in own}) > 1:
        said = "; ".join(f"{name}: {' and '.join(f'{s:,}' for s in own)}" for name, own in steps.items())
        found.append(Omission("arms", f"last validations were after different numbers of steps: {said}"))
    return _merged(found)


def _seeds(arms: Sequence[Arm]) -> list[Omission]:
    every = sorted({seed for arm in arms for seed in arm.runs})
    lacking = {arm.name: [seed for seed in every if seed not in arm.runs] for arm in arms}
    return [
        Omission(name, f"no run with seed {', '.join(map(str, seeds))}, which other arms have")
        for name, seeds in lacking.items()
        if seeds
    ]


def _merged(found: Sequence[Omission]) -> list[Omission]:
    """One line for all runs with one reason."""
    lines = []
    for why, group in groupby(sorted(found, key=lambda one: one.why), key=lambda one: one.why):
        names = list(dict.fromkeys(one.name for one in group))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        lines.append(Omission(", ".join(names[:3]) + more, why))
    return lines


def _at(manifest: Mapping[str, Any], keys: Sequence[str]) -> Any:
    value: Any = manifest
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
