"""A line for every training pair and epoch, and what similarity told beforehand about who would fall.

Whether CHES and its fellows predict likelihood displacement (Razin et al., ICLR 2025, https://arxiv.org/abs/2410.08847,
section 5) is measured in each run, on its own pairs, instead of being taken from the paper.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pyarrow as pa
import torch
from torch import Tensor

from lit_pref.console import say
from lit_pref.encoding import ending_tokens
from lit_pref.parquet_log import ParquetLog
from lit_pref.processes import Processes
from lit_pref.progress import need_loader_each_epoch, nothing_left, started_from
from lit_pref.references.many_pairs import Zeros, score_pairs
from lit_pref.similarity import USUAL, Measuring
from lit_pref.similarity.windows import measure_all

from .evidence_report import EvidenceReport
from .ledger_memory import LedgerMemory, changes


def ledger_columns(logps: Tensor, zeros: Zeros) -> dict[str, Any]:
    """Log-probabilities of n pairs, what they are compared with, and what follows from both; nulls without a reference.

    Args:
        logps: (n, 2) of chosen and rejected responses, nats.
        zeros: what they are compared with.
    """
    assert zeros.initial is not None
    displacement = logps - zeros.initial  # (n, 2)
    nothing = [pa.nulls(len(logps), pa.float64())] * 2
    reference = nothing if zeros.reference is None else zeros.reference.T.numpy()
    return {
        "chosen_logps": logps[:, 0].numpy(),
        "rejected_logps": logps[:, 1].numpy(),
        "chosen_reference_logps": reference[0],
        "rejected_reference_logps": reference[1],
        "margin": (displacement[:, 0] - displacement[:, 1]).numpy(),
        "displacement": displacement[:, 0].numpy(),
        "rejected_displacement": displacement[:, 1].numpy(),
    }


class Ledger(pl.Callback):
    """Measures all training pairs before every epoch and after the last step, kept by pruning or not.

    Writes ``ledger.parquet`` into the run's folder, one line a pair and measurement: ``epoch`` is the epoch that the
    measurement comes before, 0 before training, and the last one comes after the last step; ``displacement``,
    ``rejected_displacement`` and ``margin``, their difference, are changes against the initial policy in nats (without
    a reference, against the first measurement); ``kept`` says whether the pair was chosen for the epoch, null in the
    end; where an epoch is cut short, by ``limit_train_batches`` or a stop, not all of these have their turn.

    Each measurement but the first is compared with the one before: of the pairs that were in a batch in between, did
    those with higher similarity fall more? ``evidence/MEASURE_spearman/train`` is the rank correlation of a measure
    with the fall of the chosen log-probability, positive where it told beforehand, with a 95% bootstrap interval;
    ``evidence/MEASURE_auc/train`` is the chance that a pair that fell has a higher value than one that did not. In the
    end the first measurement is compared with the last one, over all pairs that were ever in a batch:
    ``evidence/MEASURE_spearman_run/train`` and so on, and the sentence that a run ends with.

    It costs a forward pass over all training pairs an epoch, and one more with the reference at the start, or each
    time where the reference moves.

    Args:
        measures: what is measured; see ``lit-pref score``.
        bootstrap: resamples of an interval.
        tokens_per_batch: most tokens of one model call, padding included.
    """

    def __init__(self, measures: Sequence[str] = USUAL, bootstrap: int = 500, tokens_per_batch: int = 1024) -> None:
        if bootstrap < 0:
            raise ValueError(f"bootstrap is {bootstrap}, but must be at least 0")
        Measuring(measures, tokens_per_batch=tokens_per_batch)  # refuses what cannot be before anything is loaded
        self.measures = list(measures)
        self.tokens_per_batch = tokens_per_batch
        self.lines = ParquetLog("ledger.parquet")
        self.report = EvidenceReport(bootstrap)
        self.measured_for = -1  # the last epoch that was measured for
        self.memory = LedgerMemory()
        self.zeros = Zeros(None, None)
        self._open_state: dict[str, Any] | None = None
        self._trainer: pl.Trainer | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        need_loader_each_epoch(trainer, "the Ledger callback")
        self._open_state, self._trainer = None, trainer
        self.lines.open(Path(trainer.default_root_dir), trainer.is_global_zero, started_from(trainer))
        data: Any = trainer.datamodule  # type: ignore[attr-defined]

        def watch(epoch: int) -> None:
            if epoch > self.measured_for and not nothing_left(trainer, epoch):
                kept = set(data.kept)
                self._measure(trainer, pl_module, epoch, torch.tensor([p in kept for p in data.train_positions]))

        data.watchers.append(watch)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.memory.saw(batch.rows)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A checkpoint of a finished run goes on as if it had not been measured at its end.
        self._open_state = self.state_dict()
        self._measure(trainer, pl_module, self.measured_for + 1, None)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Said last, when a progress bar has been taken down."""
        if stage == "fit" and self.report.sentence:
            say(self.report.sentence)

    def state_dict(self) -> dict[str, Any]:
        if self._open_state is not None:
            return self._open_state
        self._gather()  # every process saves
        zeros = {name: values for name, values in self.zeros._asdict().items() if values is not None}
        state = {"measured_for": self.measured_for, "zeros": zeros, "lines": self.lines.state_dict()}
        return {**state, **self.memory.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.measured_for = state_dict["measured_for"]
        self.memory.load_state_dict(state_dict)
        self.zeros = Zeros(state_dict["zeros"].get("reference"), state_dict["zeros"].get("initial"))
        self.lines.load_state_dict(state_dict["lines"])

    def _measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int, kept: Tensor | None) -> None:
        """Measure, write down, compare with the measurement before."""
        self._gather()
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        positions = data.train_positions
        told = data.candidates(positions, torch.zeros(len(positions)), epoch)  # for its rows and lengths
        self._forget_other_pairs(told.rows)
        processes = Processes.of(trainer)
        measuring = Measuring(self.measures, ending_tokens(data.tokenizer), self.tokens_per_batch, logps=True)
        name = f"Measuring pairs before epoch {epoch}" if kept is not None else "Measuring pairs after the last step"
        found = measure_all(pl_module.policy, data.train, positions, measuring, processes, name)  # type: ignore[arg-type]
        logps = torch.stack([found["chosen_logps"], found["rejected_logps"]], -1)  # (n, 2)
        self._compare(trainer, pl_module, logps, processes)
        values = {name: found[name] for name in self.measures}
        self.lines.append({
            "epoch": [epoch] * len(positions),
            "step": [trainer.global_step] * len(positions),
            "row": told.rows.numpy(),
            "chosen_tokens": told.chosen_lengths.numpy(),
            "rejected_tokens": told.rejected_lengths.numpy(),
            **ledger_columns(logps, self.zeros),
            **{name: column.numpy() for name, column in values.items()},
            "kept": pa.nulls(len(positions), pa.bool_()) if kept is None else kept.numpy(),
        })  # fmt: skip
        if self.memory.before:
            self.report.add(trainer, *changes(self.memory.before, logps[:, 0], self.measures))
        if kept is not None:
            self.measured_for = epoch
            self.memory.remember(told.rows, logps[:, 0], values)
        elif self.memory.first:
            self.report.close(trainer, *changes(self.memory.first, logps[:, 0], self.measures))

    def _gather(self) -> None:
        if self._trainer is not None:
            self.memory.gather(Processes.of(self._trainer))

    def _compare(self, trainer: pl.Trainer, pl_module: Any, logps: Tensor, processes: Processes) -> None:
        """Know what log-probabilities are compared with; a reference that stays is asked once."""
        if self.zeros.initial is None or pl_module.reference.moves:
            pl_module.reference.prepare(trainer)
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            positions = data.train_positions
            self.zeros = score_pairs(
                pl_module.reference, pl_module.policy, data.train, positions, self.tokens_per_batch, processes
            )
        if self.zeros.initial is None:
            self.zeros = Zeros(None, logps)

    def _forget_other_pairs(self, rows: Tensor) -> None:
        """A restart on other pairs compares nothing with what it knew of those before."""
        if self.memory.before and not torch.equal(self.memory.before["row"], rows):
            say("The training pairs are not those of the checkpoint, so the ledger compares nothing with those before.")
            self.memory.forget()
            self.zeros = Zeros(None, None)
