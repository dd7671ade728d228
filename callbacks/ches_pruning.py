"""Pruning between epochs: pairs whose responses the current policy finds least alike go on, the others are left out.

Razin et al., ICLR 2025, https://arxiv.org/abs/2410.08847, section 6.3, filter once, with the initial model; here the
policy of the moment scores its own training pairs.
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from lit_pref.console import say
from lit_pref.data.rows import DataError
from lit_pref.encoding import ending_tokens
from lit_pref.parquet_log import ParquetLog
from lit_pref.processes import Processes
from lit_pref.pruning import Choice, Rule
from lit_pref.similarity import Measuring
from lit_pref.similarity.summary import quantile_line
from lit_pref.similarity.windows import measure_all


class CHESPruning(pl.Callback):
    """Before an epoch, scores training pairs with the current policy and keeps those that a rule chooses.

    Writes ``kept_rows.parquet`` into the run's folder, one line a candidate and choice with the reason, and logs
    ``pruning/kept/train``, the share of all training pairs. Kept rows are in the checkpoint; a restart, also in the
    middle of an epoch, goes on with them. Every process keeps the same rows.

    Args:
        rule: which pairs to keep, e.g. LowestFraction(fraction=0.25), or a control such as
            RandomSubset(rule=LowestFraction(fraction=0.25)).
        measure: what the rule reads; ches, ln_ches, last_hidden, edit_similarity, response_cosine or alpha_ches.
        every_n_epochs: choose before every n-th epoch.
        from_epoch: the first epoch that is chosen for; 0 chooses before training starts.
        cumulative: True chooses among the pairs that are still there; False among all training pairs each time, so
            that pairs can come back.
        match_steps: repeat the kept pairs, so that an epoch takes as many optimizer steps as one of all pairs, and
            the arms of a comparison differ in nothing but their pairs.
        tokens_per_batch: most tokens of one model call while scoring, padding included.
    """

    def __init__(
        self,
        rule: Rule,
        measure: str = "ln_ches",
        every_n_epochs: int = 1,
        from_epoch: int = 0,
        cumulative: bool = True,
        match_steps: bool = False,
        tokens_per_batch: int = 1024,
    ) -> None:
        if every_n_epochs < 1 or from_epoch < 0:
            raise ValueError("every_n_epochs must be at least 1, and from_epoch at least 0")
        Measuring([measure])  # refuses what is no measure before anything is loaded
        self.rule = rule
        self.measure = measure
        self.every_n_epochs = every_n_epochs
        self.from_epoch = from_epoch
        self.cumulative = cumulative
        self.match_steps = match_steps
        self.tokens_per_batch = tokens_per_batch
        self.lines = ParquetLog("kept_rows.parquet")
        self.chosen_for = -1  # the last epoch that rows were chosen for

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self.lines.open(Path(trainer.default_root_dir), trainer.is_global_zero)

        def choose(epoch: int) -> None:
            if self._due(trainer, epoch):
                self._choose(trainer, pl_module, epoch)

        trainer.datamodule.choosers.append(choose)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        return {"chosen_for": self.chosen_for, "lines": self.lines.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.chosen_for = state_dict["chosen_for"]
        self.lines.load_state_dict(state_dict["lines"])

    def _due(self, trainer: pl.Trainer, epoch: int) -> bool:
        turn = epoch >= self.from_epoch and (epoch - self.from_epoch) % self.every_n_epochs == 0
        over = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epoch
        return turn and epoch > self.chosen_for and not over

    def _choose(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        """Score, choose, check, keep, write down."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        positions = data.kept if self.cumulative else data.train_positions
        measuring = Measuring([self.measure], ending_tokens(data.tokenizer), self.tokens_per_batch)
        name = f"Scoring pairs for epoch {epoch}"
        values = measure_all(pl_module.policy, data.train, positions, measuring, Processes.of(trainer), name)  # type: ignore[arg-type]
        candidates = data.candidates(positions, values[self.measure], epoch)
        choice = self.rule.choose(candidates)
        batch = data.batch_size * trainer.world_size
        if not choice.kept.all() and int(choice.kept.sum()) < batch:
            raise self._too_few(choice, candidates.scores, epoch, batch)
        data.keep(candidates.rows[choice.kept].tolist(), self.match_steps)
        self.chosen_for = epoch
        self._write(trainer, candidates.rows, candidates.scores, choice, epoch)

    def _write(self, trainer: pl.Trainer, rows: Tensor, scores: Tensor, choice: Choice, epoch: int) -> None:
        self.lines.append({
            "epoch": [epoch] * len(rows),
            "row": rows.numpy(),
            "measure": [self.measure] * len(rows),
            "score": scores.numpy(),
            "kept": choice.kept.numpy(),
            "reason": choice.reasons,
        })  # fmt: skip
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        share = int(choice.kept.sum()) / len(data.train_positions)
        for logger in trainer.loggers:
            logger.log_metrics({"pruning/kept/train": share}, trainer.global_step)
        left = scores[~choice.kept]
        text = f"Epoch {epoch}: {int(choice.kept.sum()):,} of {len(rows):,} training pairs are kept by {self.measure}"
        ranges = f", from {_range(scores[choice.kept])}; left out, from {_range(left)}" if len(left) else ""
        say(f"{text}{ranges}.")

    def _too_few(self, choice: Choice, scores: Tensor, epoch: int, batch: int) -> DataError:
        return DataError(
            f"pruning before epoch {epoch} would keep {int(choice.kept.sum()):,} of {len(scores):,} training pairs, "
            f"less than one batch of {batch}.\n  Quantiles of {self.measure}: {quantile_line(scores.numpy())}.\n"
            "  Fix: choose a rule that keeps more, or a smaller data.batch_size.",
            ["pruned-too-far"],
        )


def _range(scores: Tensor) -> str:
    return f"{scores.min():.4g} to {scores.max():.4g}"
