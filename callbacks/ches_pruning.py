"""Pruning between epochs: pairs whose responses the current policy finds least alike go on, the others are left out.

Razin et al., ICLR 2025, https://arxiv.org/abs/2410.08847, section 6.3, filter once, with the initial model; here the
policy of the moment scores its own training pairs.
"""

from typing import Any

import lightning.pytorch as pl

from lit_pref.pruning import Rule

from .pair_choice import PairChoice


class CHESPruning(pl.Callback):
    """Before an epoch, scores training pairs with the current policy and keeps those that a rule chooses.

    Writes ``kept_rows.parquet`` into the run's folder, one line a candidate and choice with the reason, and logs
    ``pruning/kept/train``, the share of all training pairs; for a control also ``pruning/overlap/train``, the share of
    the kept pairs that the rule it answers to would have kept too. Kept rows are in the checkpoint; a restart, also in
    the middle of an epoch, goes on with them. Every process keeps the same rows.

    Args:
        rule: which pairs to keep, e.g. LowestFraction(fraction=0.25), or a control such as
            RandomSubset(rule=LowestFraction(fraction=0.25)).
        measure: what the rule reads; ches, ln_ches, last_hidden, edit_similarity, response_cosine or alpha_ches.
        every_n_epochs: choose before every n-th epoch.
        from_epoch: the first epoch that is chosen for; 0 chooses before training starts.
        cumulative: True chooses among the pairs that are still there; False among all that training began with each
            time, so that pairs can come back.
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
        self.choice = PairChoice(rule, measure, "kept_rows.parquet", match_steps, tokens_per_batch)
        self.every_n_epochs = every_n_epochs
        self.from_epoch = from_epoch
        self.cumulative = cumulative
        self.chosen_for = -1  # the last epoch that rows were chosen for

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        allowed = data.kept  # what data.kept_rows or data.selection left out never comes back
        self.choice.open(trainer)

        def choose(epoch: int) -> None:
            if self._due(trainer, epoch):
                positions = data.kept if self.cumulative else allowed
                self.choice.apply(trainer, pl_module, positions, epoch)
                self.chosen_for = epoch

        data.choosers.append(choose)

    def state_dict(self) -> dict[str, Any]:
        return {"chosen_for": self.chosen_for, "lines": self.choice.lines.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.chosen_for = state_dict["chosen_for"]
        self.choice.lines.load_state_dict(state_dict["lines"])

    def _due(self, trainer: pl.Trainer, epoch: int) -> bool:
        turn = epoch >= self.from_epoch and (epoch - self.from_epoch) % self.every_n_epochs == 0
        over = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epoch
        # Pruning that is added at a restart waits: an epoch that has begun is finished with the rows it began with.
        begun: Any = trainer.fit_loop.epoch_progress.current
        return turn and epoch > self.chosen_for and not over and begun.started <= begun.processed
