"""Scores of every pair as a file: what ``lit-pref predict`` is for. Knows nothing about training."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from lit_pref.console import say

from .displacement import displacement
from .example_table import ExampleTable


class Predictions(pl.Callback):
    """Writes one JSON line a pair: log-probabilities of both sides under policy and reference, lengths, changes.

    Args:
        filename: file in the run's folder.
    """

    def __init__(self, filename: str = "predictions.jsonl") -> None:
        self.filename = filename
        self.table = ExampleTable()

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        policy, reference = outputs["policy"], outputs["initial"]
        columns = {}
        for side in ("chosen", "rejected"):
            columns[f"{side}_tokens"] = getattr(policy, side).lengths
            columns[f"{side}_logps"] = getattr(policy, side).logps
            if reference is not None:
                columns[f"{side}_reference_logps"] = getattr(reference, side).logps
        if reference is not None:
            columns |= {f"displacement_{name}": v for name, v in displacement(policy, reference).items()}
        self.table.to(pl_module.device).update(batch.rows, columns)

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        columns = self.table.columns()
        self.table.reset()
        if not trainer.is_global_zero:
            return
        path = Path(trainer.default_root_dir) / self.filename
        with path.open("w") as file:
            ids = trainer.datamodule.train.ids  # type: ignore[attr-defined]
            for values in zip(*(_plain(name, column) for name, column in columns.items()), strict=True):
                line = dict(zip(columns, values, strict=True))
                name = ids.get(str(line["row"]))
                file.write(json.dumps(line if name is None else {"id": name, **line}) + "\n")
        say(f"Scores of {len(columns['row']):,} pairs: {path}")


def _plain(name: str, column: Tensor) -> list[int] | list[float]:
    return column.long().tolist() if name == "row" or name.endswith("_tokens") else column.tolist()
