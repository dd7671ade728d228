"""One arm of a comparison with one seed. Knows names and configurations; nothing of processes or files."""

from dataclasses import dataclass
from typing import Any

from ..experiments.stages import digest
from ..manifest import PLACES
from .grid import Point


@dataclass(frozen=True)
class PlannedArm:
    """What one run is to do.

    Attributes:
        name: of the arm, shared by its seeds.
        objective: name of the objective's file.
        point: values of the grid.
        seed: of the run.
        config: every key and value of ``lit-pref fit``.
    """

    name: str
    objective: str
    point: Point
    seed: int
    config: dict[str, Any]

    @property
    def folder(self) -> str:
        """Name of the folder of its runs."""
        return f"{self.name}_seed{self.seed}"

    @property
    def key(self) -> str:
        """A name for what is done; a run of another configuration has another."""
        return key_of(self.config)

    @property
    def objective_class(self) -> str:
        return str(self.config["model"]["objective"]["class_path"]).split(".")[-1]


def key_of(config: dict[str, Any]) -> str:
    """A name for what a configuration trains, wherever its files go."""
    return digest({key: value for key, value in config.items() if key not in PLACES})
