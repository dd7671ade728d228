"""From options to arms: every configuration read and built before anything runs. Knows no process and no pair."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import ConfigError, PrefError
from .fit_configs import Config, FitConfigs
from .grid import Point, name_of, read_grid
from .objective_files import objective_files
from .options import Options
from .planned_arm import PlannedArm

SEED = "{seed}"
CACHED = "lit_pref.references.CachedModel"
#: Between the base's objective and an arm's own: when a class changes, no argument of the base's objective stays.
FORGET = "--model.objective=objectives.SFT"


class Planner:
    """Makes the arms of a comparison.

    Args:
        options: what was asked for.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.fit = FitConfigs()
        self.texts = [_text(path) for path in options.configs]
        words = [*self.texts, *options.overrides]
        self.seeded = any(SEED in word for word in words)  # else configurations of all seeds are alike
        self.stack = ExitStack()

    def arms(self) -> list[PlannedArm]:
        """All arms, arm by arm within each seed, so that what ends early is whole seeds.

        Raises:
            PrefError: a configuration that ``lit-pref fit`` would refuse, or arms that could not be compared.
        """
        files, points = objective_files(self.options.objectives), read_grid(self.options.grid)
        root = (Path(self.options.out).expanduser() / "arms").absolute()
        arms: list[PlannedArm] = []
        first: dict[str, Config] = {}
        with self.stack:
            for seed in self.options.seeds:
                for objective, file in files.items():
                    for point in points:
                        name = name_of(objective, point)
                        shared = None if self.seeded else first.get(name)
                        config = shared or self._config(objective, file, point, seed)
                        first.setdefault(name, config)
                        run = {"root": str(root), "name": f"{name}_seed{seed}"}
                        config = {**config, "seed_everything": seed, "run": run, "ckpt_path": None}
                        arms.append(PlannedArm(name, objective, point, seed, config))
        _check(arms, self.options.baseline)
        return arms

    def _config(self, objective: str, file: Path, point: Point, seed: int) -> Config:
        """Of one arm, with the reference that computes its scores once where the objective allows that."""
        shared = [word for path in self._filled(seed) for word in ("--config", path)]
        words = [*shared, FORGET, "--config", str(file)]
        words += [word.replace(SEED, str(seed)) for word in self.options.overrides]
        try:
            self.fit.read(words)
        except PrefError as error:
            raise _named(f"objective {objective}: {error}", error) from error
        words += [f"--{key}={value}" for key, value in point.items()]
        of = "".join(f", --grid {key}={value}" for key, value in point.items())
        try:
            config = self.fit.read(words)
            module, _ = self.fit.built(config)
            if config["model"]["reference"] is None and _sums_suffice(module.objective):
                config = self.fit.read([*words, f"--model.reference={CACHED}"])
        except PrefError as error:
            fix = "\n  Fix: leave the key or this objective out, or name YAML files of your own." if of else ""
            raise _named(f"objective {objective}{of}: {error}{fix}", error) from error
        return config

    def _filled(self, seed: int) -> list[str]:
        """The shared files; those that name the seed are written with it in its place."""
        paths = []
        for path, text in zip(self.options.configs, self.texts, strict=True):
            if SEED in text:
                folder = Path(self.stack.enter_context(TemporaryDirectory()))
                path = str(folder / Path(path).name)
                Path(path).write_text(text.replace(SEED, str(seed)), encoding="utf-8")
            paths.append(path)
        return paths


def _sums_suffice(objective: Any) -> bool:
    """Whether an objective reads nothing of the reference but sums over the data's own pairs."""
    return not (objective.needs_mismatched or (objective.needs_tokens and objective.needs_reference))


def _text(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {path}: this file cannot be read ({error})") from error


def _named(text: str, error: PrefError) -> PrefError:
    named = ConfigError(f"{text}\n  Nothing was trained.")
    named.exit_code = error.exit_code
    return named


def _check(arms: Sequence[PlannedArm], baseline: str | None) -> None:
    """Refuse arms of one name, of other pairs or another policy, and a baseline that is none of them."""
    names = list(dict.fromkeys(arm.name for arm in arms))
    if len({arm.folder for arm in arms}) < len(arms):
        raise ConfigError(f"two arms would have one name, among {', '.join(names)}; their folders would be the same.")
    if baseline is not None and baseline not in names:
        raise ConfigError(f"--baseline {baseline}: there is no such arm.\n  Choices: {', '.join(names)}")
    for arm in arms:
        other = next(a for a in arms if a.seed == arm.seed)
        for what, key in (("pairs", "data"), ("policy", "model.policy")):
            if _of(arm.config, key) != _of(other.config, key):
                raise ConfigError(
                    f"{arm.name} and {other.name} would have different {what}: their {key} differ in "
                    f"{_difference(_of(arm.config, key), _of(other.config, key))}.\n"
                    f"  Fix: set {key} in the shared files alone. Nothing was trained."
                )


def _of(config: Config, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = found[part]
    return found


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    return ", ".join(key for key in one if one[key] != other.get(key))
