"""Values that vary beside the objective: every combination of them. Knows keys and texts, no objective."""

import itertools
import re
from collections.abc import Sequence

from ..errors import ConfigError

#: Key of ``lit-pref fit`` -> the value as it was typed.
Point = dict[str, str]
#: Keys outside of the data that decide from what arms start or on which pairs they are measured.
SHARED = ("model.policy", "trainer.limit_val_batches")


def read_grid(words: Sequence[str]) -> list[Point]:
    """Every combination of the values of all keys; one empty point where there is no key.

    Args:
        words: KEY=A,B; commas within brackets belong to a value.

    Raises:
        ConfigError: a word without key or values, a key or value that stands there twice, or a key of what arms share.
    """
    axes: dict[str, list[str]] = {}
    for word in words:
        key, _, text = word.partition("=")
        key = key.strip().lstrip("-")
        values = [value.strip() for value in re.split(r",(?![^\[{]*[\]}])", text) if value.strip()]
        if not key or not values:
            raise ConfigError(
                f"--grid {word!r}: this names no key with values.\n  Fix: e.g. --grid model.objective.beta=0.05,0.1"
            )
        if key in axes or len(set(values)) < len(values):
            raise ConfigError(f"--grid {word!r}: {'this key' if key in axes else 'a value'} stands there twice")
        if key.split(".")[0] in ("data", "run", "seed_everything") or key.startswith(SHARED):
            raise ConfigError(
                f"--grid {key}: arms are compared on the same pairs from the same policy, so this cannot vary.\n"
                "  Fix: compare in two folders, e.g. --out runs/a --data.max_length 256."
            )
        axes[key] = values
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def name_of(objective: str, point: Point) -> str:
    """Name of an arm: of its objective, and of its values, e.g. dpo_beta=0.05."""
    last = [key.split(".")[-1] for key in point]
    names = [short if last.count(short) == 1 else key for short, key in zip(last, point, strict=True)]
    parts = [f"{name}={value}" for name, value in zip(names, point.values(), strict=True)]
    return re.sub(r"[^\w.=+-]+", "-", "_".join([objective, *parts]))
