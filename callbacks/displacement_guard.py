"""A budget for likelihood displacement on held-out pairs, and what happens where it is exceeded.

Each act is one that the paper, Razin et al., ICLR 2025, https://arxiv.org/abs/2410.08847, section 6, applies from the
start: filtering by CHES, or an SFT term; or training ends.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal

import lightning.pytorch as pl
from torch import Tensor

from lit_pref.console import say
from lit_pref.errors import ConfigError
from lit_pref.progress import first_validation, within_epoch
from lit_pref.pruning import Rule
from lit_pref.references import NoReference

from .displacement import displacement
from .example_metrics import ExampleMetrics
from .guard_acts import Stop
from .guard_arguments import make_act


class DisplacementGuard(ExampleMetrics):
    """Acts where the chosen log-probability of validation pairs has fallen by more than a budget, on average.

    It looks at every validation but that before training, and says each time what it does. Logs ``guard/acts/val``, how
    often it has acted, and ``guard/sft_weight/val`` where that is what it raises. What it did, and what it has yet to
    do, is in checkpoints. A run that diverged is within no budget: "stop" ends it, the others say so.

    Arguments of another action than the one that is chosen are refused.

    Args:
        budget_nats: largest mean fall against the initial policy, nats.
        action: "stop" ends training, with its checkpoint; "prune" keeps, before the next epoch, the pairs that ``rule``
            chooses, and again after later epochs that exceed the budget; "raise_sft_weight" multiplies the weight of
            the SFT term of a WeightedSum objective by ``step`` at each validation above budget.
        rule: which pairs "prune" keeps; by default LowestFraction(0.5).
        measure: what the rule reads, by the policy of that moment; by default ln_ches, see CHESPruning.
        tokens_per_batch: most tokens of one model call while scoring for "prune", padding included; by default 1024.
        step: factor of "raise_sft_weight", above 1; by default 2.
        max_sft_weight: weight that "raise_sft_weight" never exceeds; by default 10.
    """

    def __init__(
        self,
        budget_nats: float,
        action: Literal["stop", "prune", "raise_sft_weight"],
        rule: Rule | None = None,
        measure: str | None = None,
        tokens_per_batch: int | None = None,
        step: float | None = None,
        max_sft_weight: float | None = None,
    ) -> None:
        super().__init__(train=False)
        if not (isfinite(budget_nats) and budget_nats >= 0):
            raise ValueError(f"budget_nats is {budget_nats}, but must be a number of at least 0")
        self.budget_nats = budget_nats
        self.acts = 0
        given = {"rule": rule, "measure": measure, "tokens_per_batch": tokens_per_batch, "step": step,
                 "max_sft_weight": max_sft_weight}  # fmt: skip
        self.act = make_act(action, {name: value for name, value in given.items() if value is not None})

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if isinstance(pl_module.reference, NoReference):
            raise ConfigError(
                "the DisplacementGuard callback measures against a reference, but model.reference is NoReference.\n"
                "  Fix: remove the callback, or set model.reference to lit_pref.references.FrozenModel."
            )
        if stage == "fit":
            self.act.setup(trainer, pl_module)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not data.val_positions or not trainer.enable_validation:
            raise ConfigError(
                "DisplacementGuard looks at validation pairs, but this run validates on none.\n"
                "  Fix: set data.val_size or data.val_path, or remove the callback."
            )
        first, total = first_validation(trainer, -(-data.training.length // (data.batch_size * trainer.world_size)))
        if first > total:
            raise ConfigError(
                "DisplacementGuard looks at validation pairs, but between its first and last step this run never "
                f"validates: the first validation would come after batch {first:.0f} of {total:.0f}.\n"
                "  Fix: lower trainer.check_val_every_n_epoch or trainer.val_check_interval, or remove the callback."
            )
        if first == total:
            say(
                "DisplacementGuard: the first validation of this run comes after its last step, so all that the guard "
                "can do is to say what it sees. It acts earlier where trainer.val_check_interval is lower."
            )

    def columns(self, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"chosen": displacement(outputs["policy"], outputs["initial"])["chosen"]}

    def scalars(self, columns: dict[str, Tensor]) -> dict[str, float]:
        return {}

    def measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule, columns: dict[str, Tensor]) -> None:
        if trainer.state.fn != "fit":
            return
        if trainer.global_step > 0 and not trainer.should_stop:
            self._look(trainer, -float(columns["chosen"].mean()), len(columns["chosen"]))
        scalars = {"guard/acts": float(self.acts), **self.act.scalars()}
        for logger in trainer.loggers:
            logger.log_metrics({f"{name}/val": value for name, value in scalars.items()}, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"acts": self.acts, "act": self.act.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.acts = state_dict["acts"]
        self.act.load_state_dict(state_dict["act"])

    def _look(self, trainer: pl.Trainer, fall: float, pairs: int) -> None:
        if fall <= self.budget_nats:
            return
        head = (
            f"DisplacementGuard, step {trainer.global_step}: the chosen log-probability of {pairs:,} validation pairs"
        )
        if isfinite(fall):
            head += f" fell by {fall:.2f} nats on average, more than the budget of {self.budget_nats:g}."
        else:
            head += " is no longer a finite number: the run diverged."
        if not within_epoch(trainer):
            say(f"{head} Training has ended, so nothing is done about it.")
        elif isfinite(fall) or isinstance(self.act, Stop):
            done, text = self.act.act(trainer)
            self.acts += done
            say(f"{head} {text}")
        else:
            say(f"{head} Nothing that this guard does can mend that; training goes on.")
