"""Whether runs may stand side by side, and what a reader should know where they may. Knows manifests alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations, groupby
from typing import Any

from ..data.rows import DataError
from .arms import Arm
from .numbers import listed
from .omission import Omission
from .run import Run
from .texts import plain

#: What has to be equal within a seed: where it lies in run.json, and what it is called.
SAME = {
    ("policy",): "the initial policy",
    ("zero",): "the model that displacement is measured from",
    ("data", "val"): "the validation pairs",
    ("rows", "val"): "the rows of the validation pairs that were measured",
}
#: Of these, what older runs did not write; nothing is known of them, so nothing differs.
NEWER = ("zero",)
#: The same in config.yaml, of runs without a run.json. Equal names need not mean equal things, but others are others.
NAMED = {
    ("model", "policy", "path"): "the initial policy",
    ("model", "policy", "revision"): "the initial policy",
    ("data", "val_path"): "the validation pairs",
    ("data", "val_split"): "the validation pairs",
    ("data", "path"): "the data that validation pairs are taken from",
    ("data", "max_length"): "the length that pairs are cut to",
}
#: What a seed may change beside the order of pairs, where it lies in run.json.
SEEDED = (("policy",), ("data", "train"), ("rows", "train"), ("data", "val"), ("rows", "val"))


def check(arms: Sequence[Arm]) -> None:
    """Refuse runs that began elsewhere or were measured on other pairs: within a seed, and between arms without a
    common one, of which no seed could tell that they differ.

    Raises:
        DataError: names two such runs and what differs.
    """
    for file, facts in (("run.json", SAME), ("config.yaml", NAMED)):
        for keys, what in facts.items():
            for one, other in _side_by_side(arms, partial(_knows, file=file, keys=keys)):
                if file == "config.yaml" and one.manifest and other.manifest:
                    continue  # fingerprints have said more
                values = _fact(one, file, keys), _fact(other, file, keys)
                if values[0] != values[1]:
                    raise _differing(one, other, what, f"{'.'.join(keys)} in {file}", values)
    for what in dict.fromkeys(what for arm in arms for run in arm.runs.values() for what in run.refusals.origins):
        for one, other in _side_by_side(arms, lambda run: what in run.refusals.origins):  # noqa: B023, used at once
            values = one.refusals.origins[what], other.refusals.origins[what]
            if values[0] != values[1]:
                raise _differing(one, other, what, "evaluations.jsonl", values)


def _side_by_side(arms: Sequence[Arm], knows: Callable[[Run], bool]) -> Iterator[tuple[Run, Run]]:
    """Pairs of runs that have to be equal, of those that know the fact."""
    first: dict[int, Run] = {}
    for seed, run in ((seed, run) for arm in arms for seed, run in arm.runs.items()):
        if knows(run) and (other := first.setdefault(seed, run)) is not run:
            yield other, run
    for one, two in combinations(arms, 2):
        if not one.runs.keys() & two.runs.keys():
            runs = [run for arm in (one, two) for run in arm.runs.values() if knows(run)]
            yield from ((runs[0], run) for run in runs[1:])


def _knows(run: Run, file: str, keys: Sequence[str]) -> bool:
    facts = _facts(run, file)
    return bool(facts) and (keys[0] not in NEWER or keys[0] in facts)


def _fact(run: Run, file: str, keys: Sequence[str]) -> Any:
    if file == "config.yaml" and keys == ("data", "path") and _at(run.config, ("data", "val_path")):
        return None  # validation pairs come from elsewhere
    return _at(_facts(run, file), keys)


def _facts(run: Run, file: str) -> Mapping[str, Any]:
    return run.manifest if file == "run.json" else run.config


def _differing(one: Run, other: Run, what: str, where: str, values: tuple[object, object]) -> DataError:
    theirs, ours = (plain(value, 60) for value in values)
    seeds = (
        f"both of seed {one.seed}"
        if one.seed == other.seed
        else f"of arms without a common seed ({one.seed}, {other.seed})"
    )
    return DataError(
        f"{plain(one.name, 200)} and {plain(other.name, 200)}, {seeds}, cannot be compared: they differ in "
        f"{what} ({where}: {theirs} and {ours}).\n"
        "  Fix: report them apart, or train both from the same start, and measure both on the same pairs and prompts.",
        ["runs-not-comparable"],
    )


def same_over_seeds(arms: Sequence[Arm]) -> bool:
    """Whether every run is known to have the same policy and pairs, and no more of it is drawn by the seed."""
    runs = [run for arm in arms for run in arm.runs.values()]
    policies = [_at(run.config, ("model", "policy")) for run in runs]
    drawn = any(isinstance(one, Mapping) and (one.get("lora") or one.get("dropout")) for one in policies)
    return not drawn and all(
        len(values := {str(_at(run.manifest, keys)) for run in runs}) == 1 and "None" not in values for keys in SEEDED
    )


def remarks(arms: Sequence[Arm]) -> list[Omission]:
    """What is missing in runs that are compared, and in what arms differ beside their objectives."""
    found = [Omission(run.name, gap) for arm in arms for run in arm.runs.values() for gap in run.gaps]
    for arm in arms:
        for run in arm.runs.values():
            by = run.manifest.get("stopped_by")
            if by not in (None, "max_steps", "max_epochs"):
                found.append(Omission(run.name, f"{by} stopped it after {run.manifest.get('steps', '?')} steps"))
    found += [*_seeds(arms), *_unlike(arms), *_settings(arms)]
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


def _unlike(arms: Sequence[Arm]) -> Iterator[Omission]:
    """Seeds of one arm that began elsewhere or were measured elsewhere, where no other arm has both and shows the same.

    Worlds that go with the seed differ so too, in every arm; a run that was mistaken for a repetition does in one.
    """
    for arm in arms:
        for keys, what in SAME.items():
            known = [run for run in arm.runs.items() if _knows(run[1], "run.json", keys)]
            seeds: dict[int, None] = {}
            for (one, run), (two, other) in combinations(known, 2):
                alone = not any({one, two} <= others.runs.keys() for others in arms if others is not arm)
                if alone and _at(run.manifest, keys) != _at(other.manifest, keys):
                    seeds |= {one: None, two: None}
            if seeds:
                said = ", ".join(map(str, sorted(seeds)))
                yield Omission(
                    arm.name,
                    f"{what} differs between its seeds {said}, and no other arm has these to show the same".replace(
                        "pairs differs", "pairs differ"
                    ),
                )


def _settings(arms: Sequence[Arm]) -> Iterator[Omission]:
    """A line for every setting that is not the objective's and differs: what differs with it is not its doing alone."""
    known = [arm for arm in arms if any(run.config for run in arm.runs.values())]
    for key in sorted({key for arm in known for key in arm.settings if key.split(".")[0] != "objective"}):
        names: dict[str, list[str]] = {}
        for arm in known:
            names.setdefault(plain(arm.settings.get(key, "none"), 40), []).append(plain(arm.name, 40))
        if len(names) > 1:
            said = "; ".join(f"{value} in {listed(_few(own))}" for value, own in names.items())
            yield Omission("arms", f"{plain(key, 60)} differs: {said}")


def _few(names: list[str]) -> list[str]:
    return [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else names


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
