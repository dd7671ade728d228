"""Distributions over validation pairs, for TensorBoard: a mean can hide that half of the pairs rise. Keeps no file."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from .example_metrics import ExampleMetrics
from .trajectories import trajectory_columns

#: Column -> tag; TensorBoard wants tags apart from those of curves.
TAGS = {
    "chosen_displacement": "distribution/displacement_chosen/val",
    "rejected_displacement": "distribution/displacement_rejected/val",
    "ches": "distribution/ches/val",
    "ln_ches": "distribution/ln_ches/val",
}


class Histograms(ExampleMetrics):
    """Shows, after each validation, how displacement (nats), CHES and CHES per length spread over the pairs."""

    def __init__(self) -> None:
        super().__init__(train=False)

    def columns(self, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
        columns = trajectory_columns(outputs["policy"], outputs["initial"])
        return {name: values for name, values in columns.items() if name in TAGS}

    def scalars(self, columns: dict[str, Tensor]) -> dict[str, float]:
        return {}

    def measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule, columns: dict[str, Tensor]) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.testing or not trainer.is_global_zero:
            return
        for name, values in columns.items():
            finite = values[values.isfinite()]  # of a run that diverged, what is left
            for logger in loggers if name != "row" and len(finite) else []:
                logger.experiment.add_histogram(TAGS[name], finite.numpy(), trainer.global_step)
