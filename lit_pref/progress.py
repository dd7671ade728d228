"""How much of a training run is over, whatever its epochs cost. Knows loops, nothing about data or schedules."""

from math import ceil
from typing import Any

import lightning.pytorch as pl

from .errors import ConfigError


def started_from(trainer: pl.Trainer) -> str | None:
    """The checkpoint that a run goes on from, as it was given; None for a run from the start."""
    path = getattr(trainer, "started_from", None) or trainer.ckpt_path
    return None if path is None else str(path)


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
    loaders: Any = getattr(data, "loaders", None)
    asked = (loaders and loaders.asked) or trainer  # with batches by tokens the Trainer counts calls, not batches
    limit = asked.limit_train_batches
    whole = int(data.batches_of_all * limit) if isinstance(limit, float) else min(data.batches_of_all, limit or 1)
    planned = ceil(whole / asked.accumulate_grad_batches) * (trainer.max_epochs or 0)
    if trainer.max_steps > 0:
        planned = min(planned, trainer.max_steps)
    return round(share_done(trainer, batches) * planned)


def within_epoch(trainer: pl.Trainer) -> bool:
    """Whether an epoch has begun and is not closed yet; not so in a validation before training, or after its end."""
    progress: Any = trainer.fit_loop.epoch_progress.current
    return bool(progress.ready > progress.processed)


def nothing_left(trainer: pl.Trainer, epoch: int) -> bool:
    """Whether training is over before this epoch: what a restart of a finished run finds."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    return (epochs is not None and 0 <= epochs <= epoch) or 0 <= steps <= trainer.global_step


def need_loader_each_epoch(trainer: pl.Trainer, name: str) -> None:
    """ConfigError where epochs share a loader, so that what acts before an epoch would act before the first alone.

    Args:
        trainer: whose settings count.
        name: of what acts before epochs.
    """
    every = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
    if every != 1:
        raise ConfigError(
            f"{name} acts before every epoch, but trainer.reload_dataloaders_every_n_epochs is {every}.\n"
            "  Fix: set it to 1, as it is on the command line by default."
        )


def first_validation(trainer: pl.Trainer, batches: int) -> tuple[float, float]:
    """After which batch of a run the first validation comes, and how many batches there are, both counted from 1.

    Validations before the first step and after the last one, by callbacks, are none of these.

    Args:
        trainer: a Trainer about to fit; of a limit in time it knows nothing.
        batches: of an epoch, before ``limit_train_batches``.
    """
    limit = trainer.limit_train_batches
    each = max(int(batches * limit) if isinstance(limit, float) else min(batches, limit or 1), 1)
    accumulate, epochs, steps = trainer.accumulate_grad_batches, trainer.max_epochs, trainer.max_steps
    total = epochs * each if epochs is not None and epochs >= 0 else float("inf")
    if steps >= 0:
        whole, rest = divmod(steps, ceil(each / accumulate))
        total = min(total, whole * each + min(rest * accumulate, each))
    interval: Any = trainer.val_check_interval
    if not isinstance(interval, int | float):
        return 1, total  # in time
    within = interval if isinstance(interval, int) else max(int(each * interval), 1)
    skipped = 0 if trainer.check_val_every_n_epoch is None else trainer.check_val_every_n_epoch - 1
    return skipped * each + within, total
