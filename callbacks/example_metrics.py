"""The moments at which per-example values are collected and logged. Knows no metric by name; subclasses do.

Values of training batches come from the step's own outputs, at no second forward, and are logged under the number of
optimizer steps that had been taken when they were measured; so are those of validation. Curves of both start at 0.
"""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from .example_table import ExampleTable


class ExampleMetrics(pl.Callback):
    """Base of callbacks that turn step outputs into columns of per-example values, and those into scalars.

    Args:
        train: measure training batches too, every ``trainer.log_every_n_steps`` optimizer steps, over all
            examples since the last time.
    """

    def __init__(self, train: bool = True) -> None:
        self.train = train
        self.tables = {stage: ExampleTable() for stage in ("train", "val", "test")}
        self._stepped = 0

    def columns(self, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """name -> (B,) values of one batch, from what the module's step returned."""
        raise NotImplementedError

    def scalars(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """``family/name`` -> number, from the values of all examples."""
        raise NotImplementedError

    def measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule, columns: dict[str, Tensor]) -> None:
        """Called with all validation or test examples after their scalars were logged."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stepped = trainer.global_step  # that of the checkpoint where there is one

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.train:
            return
        self._update("train", pl_module, outputs)
        if trainer.global_step == self._stepped:
            return  # within an accumulation group
        self._stepped = trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (trainer.global_step - 1) % every == 0:
            self._log("train", trainer, trainer.global_step - 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.tables["train"].update_called:
            self._log("train", trainer, trainer.global_step - 1)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.tables["val"].reset()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        self._update("val", pl_module, outputs)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.tables["val"].update_called and not trainer.sanity_checking:
            scalars, columns = self._log("val", trainer, trainer.global_step)
            pl_module.log_dict(scalars, logger=False)  # for monitors such as ModelCheckpoint's
            self.measured(trainer, pl_module, columns)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        self._update("test", pl_module, outputs)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.tables["test"].update_called:
            scalars, columns = self._log("test", trainer, trainer.global_step)
            pl_module.log_dict(scalars, logger=False)
            self.measured(trainer, pl_module, columns)

    def _update(self, stage: str, pl_module: pl.LightningModule, outputs: Mapping[str, Any]) -> None:
        table = self.tables[stage].to(pl_module.device)
        table.update(outputs["batch"].rows, self.columns(outputs))

    def _log(self, stage: str, trainer: pl.Trainer, step: int) -> tuple[dict[str, float], dict[str, Tensor]]:
        columns = self.tables[stage].columns()
        self.tables[stage].reset()
        scalars = {f"{name}/{stage}": value for name, value in self.scalars(columns).items()}
        for logger in trainer.loggers if scalars else []:
            logger.log_metrics(scalars, step)
        return scalars, columns
