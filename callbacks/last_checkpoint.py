"""The checkpoint that a run ends with, also where training stops in the middle of an epoch."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_pref.progress import within_epoch


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``checkpoints/last.ckpt`` of the end of the last epoch, of the last step that ``max_steps`` allows, or of
    the validation after which a callback stops training.

    Lightning's own default saves after validation or an epoch, so a run that is limited in steps may end with nothing.
    For checkpoints by a metric, add lightning.pytorch.callbacks.ModelCheckpoint beside this.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # In time: once the epoch is closed, a restart would take the rest of its batches for done.
        if trainer.global_step == trainer.max_steps and not trainer.is_last_batch:
            assert self.dirpath is not None
            self._save_checkpoint(trainer, str(Path(self.dirpath) / "last.ckpt"))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        # In time here too: a callback may have stopped training in the middle of an epoch, for what it saw, or learnt
        # something from the validation of the last step that a restart has to know.
        ends = trainer.should_stop or trainer.global_step == trainer.max_steps
        if trainer.state.fn == "fit" and ends and within_epoch(trainer) and not trainer.is_last_batch:
            assert self.dirpath is not None
            self._save_checkpoint(trainer, str(Path(self.dirpath) / "last.ckpt"))
