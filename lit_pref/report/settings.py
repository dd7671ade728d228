"""What makes two runs two arms: the objective and the settings that change training. Knows config.yaml's keys."""

from collections.abc import Iterator, Mapping
from typing import Any

from .run import Run

#: Of trainer: what decides how long and how steps are taken, and how many pairs are in one: a batch is of each device.
#: All else there is where and how it is computed.
TRAINER = (
    "max_epochs", "max_steps", "min_epochs", "min_steps", "max_time", "limit_train_batches", "overfit_batches",
    "devices", "num_nodes", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "precision",
)  # fmt: skip
DATA = ("batch_size", "max_length", "selection", "kept_rows")
#: The project's callbacks that change training; those of a user may.
ACTING = ("CHESPruning", "DisplacementGuard")


def settings_of(run: Run) -> dict[str, Any]:
    """Key -> value of everything that is the same in runs of one arm; seeds, paths and watching callbacks are not.

    Model and data may go with the seed, so they are compared by fingerprint, not here.
    """
    model, trainer, data = (_mapping(run.config.get(key)) for key in ("model", "trainer", "data"))
    policy = _mapping(model.get("policy"))
    found = {"objective": run.objective, "lora": policy.get("lora"), "reference": model.get("reference")}
    found |= {key: model.get(key) for key in ("optimizer", "scheduler")}
    found |= {key: trainer.get(key) for key in TRAINER} | {key: data.get(key) for key in DATA}
    for callback in trainer.get("callbacks") or []:
        path = str(_mapping(callback).get("class_path", ""))
        name = path.rpartition(".")[2]
        if name in ACTING or not path.startswith("callbacks."):
            found[name] = _mapping(callback).get("init_args") or True
    return dict(_flat("", found))


def trained_on(run: Run) -> dict[str, Any]:
    """Fingerprints of the training pairs and of the rows of them, by their place in run.json; those that are known."""
    found = {f"{part}.train": _mapping(run.manifest.get(part)).get("train") for part in ("data", "rows")}
    return {key: str(value)[:8] for key, value in found.items() if value is not None}


def objective_name(objective: Any) -> str:
    """The class, and in parentheses those that it is made of: ``WeightedSum(DPO, SFT)``."""
    if not isinstance(objective, Mapping):
        return "?"
    inner = [objective_name(part) for part in _parts(objective.get("init_args"))]
    name = str(objective.get("class_path", "?")).rpartition(".")[2]
    return f"{name}({', '.join(inner)})" if inner else name


def told_apart(settings: list[dict[str, Any]]) -> list[str]:
    """Of runs with one name, what each is called behind it: the settings in which they differ."""
    keys = sorted({key for one in settings for key in one if any(one.get(key) != other.get(key) for other in settings)})
    return [" ".join(f"{_short(key, keys)}={one.get(key, 'none')}" for key in keys) for one in settings]


def _short(key: str, keys: list[str]) -> str:
    """The last word of a key where no other ends so."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key.replace(".init_args", "")


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        if "class_path" in value:
            yield value
        else:
            for inner in value.values():
                yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list) and any(isinstance(inner, Mapping | list) for inner in value):
        for place, inner in enumerate(value):
            yield from _flat(f"{prefix}.{place}", inner)
    elif value is not None:
        yield prefix, str(value) if isinstance(value, list) else value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
