"""The pairs whose chosen response moved most, as text in TensorBoard: numbers that a person can read in words."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from lit_pref.batch import Pair

from .displacement import displacement
from .example_metrics import ExampleMetrics


class MovedRows(ExampleMetrics):
    """Shows the validation pairs whose chosen log-probability fell most, after each validation.

    Args:
        count: how many pairs.
        max_chars: most characters shown of each text; the middle of longer ones is left out.
    """

    def __init__(self, count: int = 5, max_chars: int = 600) -> None:
        super().__init__(train=False)
        self.count = count
        self.max_chars = max_chars

    def columns(self, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
        moved = displacement(outputs["policy"], outputs["initial"])
        return {name: moved[name] for name in ("chosen", "rejected")}

    def scalars(self, columns: dict[str, Tensor]) -> dict[str, float]:
        return {}

    def measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule, columns: dict[str, Tensor]) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.testing or trainer.global_step == 0 or not loggers or not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        blocks = []
        for i in columns["chosen"].argsort(stable=True)[: self.count].tolist():
            pair = data.val_pair(int(columns["row"][i]))
            blocks.append(
                f"**row {pair.row}**: chosen {columns['chosen'][i]:+.2f} nats, "
                f"rejected {columns['rejected'][i]:+.2f} nats\n\n{self._texts(data.tokenizer, pair)}"
            )
        for logger in loggers:
            logger.experiment.add_text("displacement/fell_most/val", "\n\n".join(blocks), trainer.global_step)

    def _texts(self, tokenizer: Any, pair: Pair) -> str:
        texts = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        return "\n\n".join(f"{name}\n\n{self._block(tokenizer.decode(ids))}" for name, ids in texts.items())

    def _block(self, text: str) -> str:
        """An indented block: TensorBoard shows Markdown, HTML and remote images inside it as the text they are."""
        if len(text) > self.max_chars:
            half = self.max_chars // 2
            text = f"{text[:half]} … {text[-half:]}"
        return "\n".join("    " + line for line in text.splitlines())
