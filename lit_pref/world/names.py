"""The names of the tiny world's models and preference data. Knows nothing about what stands behind them."""

import re
from typing import NamedTuple

from lit_pref.errors import ConfigError

PREFIX = "world:"
PAIRS = {
    "agreement": ("no-over-never", "sure-over-yes", "yes-over-no"),
    "request": ("soft", "blunt"),
}
#: Has a model only: the classifier that judges answers of the request half.
JUDGE = "judge"
SPLITS = ("train", "validation")
_SHAPE = re.compile(r"world:(?P<half>\w+)(@(?P<seed>\d+))?(/(?P<pairs>[\w-]+))?")


class WorldName(NamedTuple):
    """`world:<half>` (a model) or `world:<half>/<pairs>` (data), after the half optionally a seed: `@3`."""

    half: str
    seed: int
    pairs: str | None  # None: the name of a model


def all_names() -> list[str]:
    """Every name there is, without seeds."""
    models = [PREFIX + half for half in PAIRS]
    data = [f"{PREFIX}{half}/{pairs}" for half, names in PAIRS.items() for pairs in names]
    return [*models, *data, PREFIX + JUDGE]


def parse(name: str) -> WorldName:
    """The parts of a name; an unknown one is a ConfigError that lists what exists."""
    match = _SHAPE.fullmatch(name)
    half, pairs = (match["half"], match["pairs"]) if match else ("", None)
    known = {**PAIRS, JUDGE: ()}
    if match is None or half not in known or (pairs is not None and pairs not in known[half]):
        raise ConfigError(
            f"The tiny world has no {name!r}; it has {', '.join(all_names())}, "
            "each with an optional seed as in world:agreement@3/no-over-never."
        )
    return WorldName(half, int(match["seed"] or 0), pairs)
