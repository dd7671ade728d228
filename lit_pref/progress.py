"""How much of a training run is over, whatever its epochs cost. Knows loops, nothing about data or schedules."""

from math import ceil
from typing import Any

import lightning.pytorch as pl


def share_done(trainer: pl.Trainer, batches: int) -> float:
    """Share of the training that is over, from 0 to 1.

    Every epoch is an equal part of it, however many steps it takes: pruning shortens epochs, and then each step is
    worth more. Where all epochs take the same steps, this is the share of steps. A limit in steps counts too.

    Args:
        trainer: a Trainer that fits.
        batches: batches of the epoch that are over.
    """
    accumulate = trainer.accumulate_grad_batches
    each = ceil(trainer.num_training_batches / accumulate)
    epochs = trainer.max_epochs or 0
    shares = [0.0]
    if epochs > 0:
        shares.append((trainer.current_epoch * each + ceil(batches / accumulate)) / (epochs * each))
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    return min(max(shares), 1.0)


def scheduled_steps(trainer: pl.Trainer, batches: int) -> int | None:
    """Where a schedule stands that was written in steps of all the training pairs; None where every step is one.

    Without pruning this is the number of steps taken.

    Args:
        trainer: a Trainer that fits a PreferenceData.
        batches: batches of the epoch that are over.
    """
    data: Any = getattr(trainer, "datamodule", None)
    if data is None or (trainer.max_epochs or 0) < 1:
        return None
    limit = trainer.limit_train_batches
    whole = int(data.batches_of_all * limit) if isinstance(limit, float) else min(data.batches_of_all, limit or 1)
    planned = ceil(whole / trainer.accumulate_grad_batches) * (trainer.max_epochs or 0)
    if trainer.max_steps > 0:
        planned = min(planned, trainer.max_steps)
    return round(share_done(trainer, batches) * planned)
