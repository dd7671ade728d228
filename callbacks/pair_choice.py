"""One choice of the pairs to train on: scored with the policy of the moment, checked, kept and written down.

Knows what happens when a choice is made; nothing about when, which is for the callback that owns it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from lit_pref.console import say
from lit_pref.data.rows import DataError
from lit_pref.encoding import ending_tokens
from lit_pref.parquet_log import ParquetLog
from lit_pref.processes import Processes
from lit_pref.progress import need_loader_each_epoch, started_from
from lit_pref.pruning import Candidates, Choice, Rule
from lit_pref.pruning.enough import too_few
from lit_pref.similarity import Measuring
from lit_pref.similarity.windows import measure_all


class PairChoice:
    """Scores training pairs with the current policy and keeps those that a rule chooses.

    Logs ``pruning/kept/train``, the share of all training pairs, and for a control ``pruning/overlap/train``, the share
    of the kept pairs that the rule it answers to would have kept too.

    Args:
        rule: which pairs to keep.
        measure: what the rule reads.
        filename: Parquet file in the run's folder, one line a candidate and choice.
        match_steps: repeat the kept pairs, so that an epoch takes as many optimizer steps as one of all pairs.
        tokens_per_batch: most tokens of one model call, padding included.
    """

    def __init__(
        self, rule: Rule, measure: str, filename: str, match_steps: bool = False, tokens_per_batch: int = 1024
    ) -> None:
        Measuring([measure], tokens_per_batch=tokens_per_batch)  # refuses what cannot be before anything is loaded
        self.rule = rule
        self.measure = measure
        self.match_steps = match_steps
        self.tokens_per_batch = tokens_per_batch
        self.lines = ParquetLog(filename)

    def open(self, trainer: pl.Trainer) -> None:
        """Say where the file lies; ConfigError where no choice could be made between epochs."""
        need_loader_each_epoch(trainer, "pruning")
        self.lines.open(Path(trainer.default_root_dir), trainer.is_global_zero, started_from(trainer))

    def apply(self, trainer: pl.Trainer, pl_module: pl.LightningModule, positions: Sequence[int], epoch: int) -> None:
        """Score the pairs at some positions, choose, check, keep, write down; every process keeps the same rows.

        Raises:
            DataError: fewer pairs than a batch would be left; nothing is changed then.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        measuring = Measuring([self.measure], ending_tokens(data.tokenizer), self.tokens_per_batch)
        name = f"Scoring pairs for epoch {epoch}"
        values = measure_all(pl_module.policy, data.train, positions, measuring, Processes.of(trainer), name)  # type: ignore[arg-type]
        candidates = data.candidates(positions, values[self.measure], epoch)
        choice = self.rule.choose(candidates)
        reason = too_few(choice, candidates.scores, data.batch_size * trainer.world_size, self.measure)
        if reason is not None:
            raise DataError(f"pruning before epoch {epoch} {reason}", ["pruned-too-far"])
        data.keep(candidates.rows[choice.kept].tolist(), self.match_steps)
        self._write(candidates, choice)
        share = int(choice.kept.sum()) / len(data.train_positions)
        scalars = {"pruning/kept/train": share}
        if choice.overlap is not None:
            scalars["pruning/overlap/train"] = choice.overlap
        for logger in trainer.loggers:
            logger.log_metrics(scalars, trainer.global_step)

    def _write(self, candidates: Candidates, choice: Choice) -> None:
        rows, scores, epoch = candidates.rows, candidates.scores, candidates.epoch
        self.lines.append({
            "epoch": [epoch] * len(rows),
            "row": rows.numpy(),
            "measure": [self.measure] * len(rows),
            "score": scores.numpy(),
            "kept": choice.kept.numpy(),
            "reason": choice.reasons,
        })  # fmt: skip
        kept, left = (values[~values.isnan()] for values in (scores[choice.kept], scores[~choice.kept]))
        text = f"Epoch {epoch}: {int(choice.kept.sum()):,} of {len(rows):,} training pairs are kept by {self.measure}"
        ranges = f", from {_range(kept)}; left out, from {_range(left)}" if len(kept) and len(left) else ""
        said = "" if choice.overlap is None else f" {choice.overlap:.0%} of them are kept by the controlled rule too."
        say(f"{text}{ranges}.{said}")


def _range(scores: Tensor) -> str:
    return f"{scores.min():.4g} to {scores.max():.4g}"
