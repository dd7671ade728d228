"""The pairs whose chosen response moved most, in TensorBoard and as a file: numbers that a person can read in words."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from lit_pref.batch import Pair
from lit_pref.whole_file import write_text

from .displacement import displacement
from .example_metrics import ExampleMetrics

MOVED_ROWS = "moved_rows.jsonl"
#: Most characters of a text in the file.
WRITTEN_CHARS = 2000


def moved_most(chosen: Tensor, count: int) -> tuple[list[int], list[int]]:
    """Places of the ``count`` pairs that fell most, and of those that rose most and are none of these.

    Args:
        chosen: (n,) changes of the chosen log-probability, nats.
        count: how many of each, at most.
    """
    order = chosen.argsort(stable=True).tolist()
    fell = order[:count]
    return fell, [i for i in order[::-1][:count] if i not in fell]


class MovedRows(ExampleMetrics):
    """Shows the validation pairs whose chosen log-probability fell most, after each validation.

    ``moved_rows.jsonl`` in the run's folder holds them as they were at the last validation, with longer texts, and
    behind them those that rose most.

    Args:
        count: how many pairs of each kind.
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
        if trainer.testing or trainer.global_step == 0 or not trainer.is_global_zero:
            return
        fell, rose = moved_most(columns["chosen"], self.count)
        if trainer.state.fn == "fit":
            lines = [json.dumps(self._line(trainer, columns, i)) for i in fell + rose]
            write_text(Path(trainer.default_root_dir) / MOVED_ROWS, "".join(f"{line}\n" for line in lines))
        self._show(trainer, columns, fell)

    def _line(self, trainer: pl.Trainer, columns: dict[str, Tensor], i: int) -> dict[str, Any]:
        data = trainer.datamodule  # type: ignore[attr-defined]
        pair = data.val_pair(int(columns["row"][i]))
        texts = {name: data.tokenizer.decode(getattr(pair, name)) for name in ("prompt", "chosen", "rejected")}
        return {
            "row": pair.row,
            "id": pair.id,
            **{name: text[:WRITTEN_CHARS] for name, text in texts.items()},
            **{f"{side}_displacement": float(columns[side][i]) for side in ("chosen", "rejected")},
        }

    def _show(self, trainer: pl.Trainer, columns: dict[str, Tensor], places: list[int]) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not loggers:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        blocks = []
        for i in places:
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
