"""The checkpoint that a run ends with, also where training stops in the middle of an epoch."""

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``checkpoints/last.ckpt`` of the end of the last epoch, and of the last step once training has ended.

    Lightning's own default saves after validation or an epoch, so a run that is limited in steps may end with nothing.
    For checkpoints by a metric, add lightning.pytorch.callbacks.ModelCheckpoint beside this.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._last_global_step_saved != trainer.global_step and trainer.global_step > 0:
            assert self.dirpath is not None
            self._save_checkpoint(trainer, str(Path(self.dirpath) / "last.ckpt"))
