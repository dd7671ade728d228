"""Where every validation pair stood at every validation, as a file. Knows columns; draws and judges nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from torch import Tensor

from lit_pref.parquet_log import ParquetLog, strings
from lit_pref.progress import started_from
from lit_pref.similarity import ches, ln_ches
from objectives import PairScores

from .displacement import displacement
from .example_metrics import ExampleMetrics

TRAJECTORIES = "trajectories.parquet"


def trajectory_columns(policy: PairScores, initial: PairScores | None) -> dict[str, Tensor]:
    """What a line says of B pairs: name -> (B,), log-probabilities and displacement in nats.

    There are no displacements where there is no reference, and no CHES where scores carry no sums of states.
    """
    chosen, rejected = policy.chosen, policy.rejected
    columns = {"chosen_logps": chosen.logps, "rejected_logps": rejected.logps}
    if initial is not None:
        moved = displacement(policy, initial)
        columns |= {f"{side}_displacement": moved[side] for side in ("chosen", "rejected")}
    columns |= {"chosen_tokens": chosen.lengths, "rejected_tokens": rejected.lengths}
    if chosen.hidden_sums is not None and rejected.hidden_sums is not None:
        sums = chosen.hidden_sums, rejected.hidden_sums
        columns |= {"ches": ches(*sums), "ln_ches": ln_ches(*sums, chosen.lengths, rejected.lengths)}
    return columns


class Trajectories(ExampleMetrics):
    """Writes ``trajectories.parquet`` into the run's folder: one line a validation pair and validation of a fit.

    Columns: step (optimizer steps taken), row, id (null where the data name none), chosen_logps, rejected_logps,
    chosen_displacement, rejected_displacement (nats, sums over the response; without a reference there are none),
    chosen_tokens, rejected_tokens, ches, ln_ches (of the policy at that moment). A restart takes earlier lines along.
    """

    def __init__(self) -> None:
        super().__init__(train=False)
        self.lines = ParquetLog(TRAJECTORIES)
        self._step = -1  # of the last lines

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._step = -1
        self.lines.open(Path(trainer.default_root_dir), trainer.is_global_zero, started_from(trainer))

    def columns(self, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
        return trajectory_columns(outputs["policy"], outputs["initial"])

    def scalars(self, columns: dict[str, Tensor]) -> dict[str, float]:
        return {}

    def measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule, columns: dict[str, Tensor]) -> None:
        # A finished run that is started again validates where it stands: those lines are there already.
        if trainer.state.fn != "fit" or trainer.global_step == self._step or not trainer.is_global_zero:
            return
        self._step = trainer.global_step
        rows = columns.pop("row").long()
        ids = trainer.datamodule.val.ids  # type: ignore[attr-defined]
        whole = ("chosen_tokens", "rejected_tokens")
        self.lines.append({
            "step": np.full(len(rows), trainer.global_step, np.int64),
            "row": rows.numpy(),
            "id": strings([ids.get(str(row)) for row in rows.tolist()]),
            **{name: (values.long() if name in whole else values).numpy() for name, values in columns.items()},
        })  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {"lines": self.lines.state_dict(), "step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lines.load_state_dict(state_dict["lines"])
        if self.lines.path is not None and self.lines.path.exists():  # else the lines were lost
            self._step = state_dict["step"]
