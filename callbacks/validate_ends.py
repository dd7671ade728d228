"""Validation before the first and after the last optimizer step, so that curves start at zero and ends are real."""

import lightning.pytorch as pl


class ValidateEnds(pl.Callback):
    """Runs validation before training starts, and again at its end where the last step was not yet validated."""

    def __init__(self) -> None:
        self._validated: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == 0:
            self._validate(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = trainer.global_step

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._validated != trainer.global_step:
            self._validate(trainer)

    def _validate(self, trainer: pl.Trainer) -> None:
        if not trainer.enable_validation:
            return
        # The way Lightning's own epoch loop enters and leaves validation.
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True
