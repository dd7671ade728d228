"""Progress as plain lines, for output that is not a terminal."""

import math
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar

from lit_pref.console import say


class PlainProgress(ProgressBar):
    """Prints a line with counts at the first batch, then at most every ``seconds``.

    Args:
        seconds: least time between two lines.
    """

    def __init__(self, seconds: float = 20.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._last = -math.inf
        self.is_enabled = True

    def disable(self) -> None:
        self.is_enabled = False

    def enable(self) -> None:
        self.is_enabled = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        total = int(trainer.num_training_batches)
        metrics = {k: v for k, v in self.get_metrics(trainer, pl_module).items() if k != "v_num"}
        text = ", ".join(f"{k} {v:.4f}" for k, v in metrics.items() if isinstance(v, float))
        self._line(f"Training: epoch {trainer.current_epoch}, batch {batch_idx + 1}/{total}, {text}")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *args: Any,
    ) -> None:
        total = int(sum(trainer.num_val_batches))
        self._line(f"Validation: batch {batch_idx + 1}/{total}")

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *args: Any,
    ) -> None:
        total = int(sum(trainer.num_predict_batches))
        self._line(f"Scoring: batch {batch_idx + 1}/{total}")

    def _line(self, text: str) -> None:
        if self.is_enabled and time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            say(text)
