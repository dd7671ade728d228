"""One process among those of a run: its share of the work, and sums over all. Knows nothing about the work."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

import lightning.pytorch as pl
import torch
from torch import Tensor

T = TypeVar("T")


def _alone(values: Tensor) -> Tensor:
    return values


class Processes(NamedTuple):
    """Where this process stands among the others; by default it is the only one.

    Attributes:
        rank: number of this process.
        size: how many there are.
        device: where this process computes.
        total: sum of a tensor over all processes, on every process.
        arithmetic: context of the run's precision.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    total: Callable[[Tensor], Tensor] = _alone
    arithmetic: Callable[[], Any] = nullcontext

    @classmethod
    def of(cls, trainer: pl.Trainer) -> "Processes":
        """Those of a Trainer whose strategy has been set up."""

        def total(values: Tensor) -> Tensor:
            reduced: Tensor = trainer.strategy.reduce(values, reduce_op="sum")
            return reduced

        return cls(
            trainer.global_rank,
            trainer.world_size,
            trainer.strategy.root_device,
            total,
            trainer.precision_plugin.val_step_context,
        )

    @property
    def wide(self) -> torch.dtype:
        """The widest floating-point numbers of the device, for long sums."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def deal(self, items: Sequence[T]) -> list[tuple[T, bool]]:
        """This process's items, each with whether it counts.

        Every process gets equally many, so that all make the same number of model calls; what fills up does not count.
        """
        own = [(item, True) for item in items[self.rank :: self.size]]
        return own + [(items[0], False)] * (-(-len(items) // self.size) - len(own))


ALONE = Processes()
