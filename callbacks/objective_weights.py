"""The two weights of any objective, so that the entanglement condition can be read off. Knows no objective by name."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from objectives.balance import pair_weights

from .example_metrics import ExampleMetrics


class ObjectiveWeights(ExampleMetrics):
    """Logs d_w = -dL/d logp(chosen) and d_l = dL/d logp(rejected), means over examples, per nat.

    From autograd on the objective alone: two numbers a pair, no pass through the model.

    Args:
        train: measure training batches too.
    """

    def __init__(self, train: bool = True) -> None:
        super().__init__(train)
        self._objective: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._objective = pl_module.objective

    def columns(self, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
        chosen, rejected = pair_weights(self._objective, outputs["policy"], outputs["reference"])
        return {"objective/chosen_weight": chosen, "objective/rejected_weight": rejected}

    def scalars(self, columns: dict[str, Tensor]) -> dict[str, float]:
        return {name: float(values.mean()) for name, values in columns.items() if name != "row"}
