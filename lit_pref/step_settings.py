"""What a Trainer was asked to do in batches of pairs, where its batches are made otherwise. Knows no data."""

from dataclasses import dataclass, fields
from math import ceil

import lightning.pytorch as pl
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from .errors import ConfigError
from .progress import need_loader_each_epoch


@dataclass(frozen=True)
class StepSettings:
    """Attributes of a Trainer that count batches, as the user set them; ``restore`` gives them back.

    Batches by tokens change them on the Trainer itself, where Lightning reads them when it asks for a loader.
    """

    accumulate_grad_batches: int
    limit_train_batches: int | float
    limit_val_batches: int | float
    limit_test_batches: int | float
    limit_predict_batches: int | float
    val_check_interval: int | float

    @classmethod
    def of(cls, trainer: pl.Trainer) -> "StepSettings":
        """Those that the Trainer has now."""
        return cls(**{field.name: getattr(trainer, field.name) for field in fields(cls)})

    def restore(self, trainer: pl.Trainer) -> None:
        """Set them again."""
        for field in fields(self):
            setattr(trainer, field.name, getattr(self, field.name))

    def set_calls(self, trainer: pl.Trainer, calls: int, batches: int) -> None:
        """Let the Trainer count the calls of one epoch, which all count.

        Validation within an epoch comes after whole steps: an interval of batches that ends within one is taken to
        its end.

        Args:
            trainer: about to train that epoch.
            calls: of an optimizer step.
            batches: of pairs, in the epoch.
        """
        trainer.accumulate_grad_batches = calls
        trainer.limit_train_batches = 1.0
        interval = self.val_check_interval
        if isinstance(interval, float) and interval != 1.0:
            interval = max(int(batches * interval), 1)
        if isinstance(interval, int):  # neither whole epochs nor time
            trainer.val_check_interval = ceil(interval / self.accumulate_grad_batches) * calls


def refuse_other_counts(trainer: pl.Trainer, name: str) -> None:
    """ConfigError where a Trainer counts calls in a way that cannot follow their number from epoch to epoch.

    Args:
        trainer: about to train.
        name: of the option that changes the number.
    """
    need_loader_each_epoch(trainer, name)
    if trainer.check_val_every_n_epoch is None and isinstance(trainer.val_check_interval, int):
        raise ConfigError(
            f"{name} makes calls of another number in each epoch, so validation cannot count them over epochs, but "
            "trainer.check_val_every_n_epoch is null.\n  Fix: set it to 1."
        )
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise ConfigError(
            f"{name} decides how many calls make a step, and so does the callback GradientAccumulationScheduler.\n"
            "  Fix: remove one of the two."
        )
