"""What a guard can do about displacement: one act, one class. Knows no budget and no validation."""

from math import isfinite
from typing import Any

import lightning.pytorch as pl
import torch

from lit_pref.console import say
from lit_pref.data.rows import DataError
from lit_pref.errors import ConfigError
from lit_pref.progress import nothing_left
from objectives import SFT, Objective, WeightedSum

from .ches_pruning import CHESPruning
from .pair_choice import PairChoice


class Act:
    """One way to act. Its state is in checkpoints."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called before training; ConfigError where the act is impossible."""

    def act(self, trainer: pl.Trainer) -> tuple[bool, str]:
        """Whether anything was done, and a sentence that says what, or why not."""
        raise NotImplementedError(f"{type(self).__name__} must define act(trainer)")

    def scalars(self) -> dict[str, float]:
        """``guard/NAME`` -> number, of what it acts on."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a restart needs."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; called after ``setup``."""


class Stop(Act):
    """Ends training after the step that was validated."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        within = trainer.val_check_interval != 1.0 or trainer.check_val_every_n_epoch is None
        for name, least, allowed in (
            ("min_epochs", trainer.min_epochs or 0, 0 if within else 1),
            ("min_steps", trainer.min_steps or 0, 0),
        ):
            if least > allowed:
                raise ConfigError(
                    f"DisplacementGuard is to stop training, but trainer.{name} is {least}, and until then Lightning "
                    f"goes on whatever a callback says.\n  Fix: remove trainer.{name}, or choose another action."
                )

    def act(self, trainer: pl.Trainer) -> tuple[bool, str]:
        trainer.should_stop = True
        return True, "Training stops here."


class Prune(Act):
    """Before the next epoch, keeps the pairs that a rule chooses among those that are still trained on.

    Args:
        choice: how pairs are scored, chosen and kept.
    """

    def __init__(self, choice: PairChoice) -> None:
        self.choice = choice
        self.asked_in = -1  # the epoch that asked for pruning; -1 where nothing is pending

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        others = [callback for callback in trainer.callbacks if isinstance(callback, CHESPruning)]  # type: ignore[attr-defined]
        if not all(other.cumulative for other in others):
            raise ConfigError(
                "DisplacementGuard prunes pairs, but CHESPruning with cumulative false would take them back before the "
                "next epoch.\n  Fix: set cumulative to true, or remove one of the two callbacks."
            )
        self.choice.open(trainer)

        def choose(epoch: int) -> None:
            # A restart within the epoch that asked builds its loader anew; the next epoch is meant.
            if 0 <= self.asked_in < epoch and not nothing_left(trainer, epoch):
                self.asked_in = -1
                # Where pairs are repeated to match the steps of all pairs, they go on to be.
                repeated = data.training.length != len(data.kept)
                self.choice.match_steps = repeated or any(other.choice.match_steps for other in others)
                try:
                    self.choice.apply(trainer, pl_module, data.kept, epoch)
                except DataError as error:  # a guard does not end the run that it guards
                    reason = str(error).partition(".\n")[0]
                    say(f"DisplacementGuard: {reason}; training goes on with all {len(data.kept):,} pairs.")

        data.choosers.append(choose)

    def act(self, trainer: pl.Trainer) -> tuple[bool, str]:
        if self.asked_in >= 0:
            return False, "Pruning before the next epoch has been asked for already."
        self.asked_in = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        when = "if training goes on" if nothing_left(trainer, self.asked_in + 1) else "before the next epoch"
        return True, f"Training pairs are pruned by {self.choice.measure} {when}."

    def state_dict(self) -> dict[str, Any]:
        return {"asked_in": self.asked_in, "lines": self.choice.lines.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.asked_in = state_dict["asked_in"]
        self.choice.lines.load_state_dict(state_dict["lines"])


class RaiseSFTWeight(Act):
    """Multiplies the weight of the SFT term of a ``WeightedSum``.

    Args:
        step: factor.
        most: weight that is never exceeded.
    """

    def __init__(self, step: float, most: float) -> None:
        if not (isfinite(step) and step > 1):
            raise ValueError(f"step is {step}, but must be above 1: it multiplies the weight of the SFT term")
        self.step = step
        self.most = most
        self.weights: list[float] = []  # those of the WeightedSum itself
        self.place = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.weights, self.place = _sft_term(pl_module.objective)  # type: ignore[arg-type]
        if not 0 < self.weight <= self.most:
            raise ConfigError(
                f"the weight of the SFT term is {self.weight:g}, but DisplacementGuard multiplies it, up to "
                f"max_sft_weight {self.most:g}.\n  Fix: a weight above 0 and not above max_sft_weight."
            )

    @property
    def weight(self) -> float:
        """That of the SFT term."""
        return self.weights[self.place]

    def act(self, trainer: pl.Trainer) -> tuple[bool, str]:
        before = self.weight
        if before >= self.most:
            return False, f"The weight of the SFT term is {before:g} already, the most that max_sft_weight allows."
        self.weights[self.place] = min(before * self.step, self.most)
        return True, f"The weight of the SFT term goes from {before:g} to {self.weight:g}."

    def scalars(self) -> dict[str, float]:
        return {"guard/sft_weight": self.weight}

    def state_dict(self) -> dict[str, Any]:
        return {"weight": torch.tensor(self.weight, dtype=torch.float64)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.weights[self.place] = float(state_dict["weight"])


def _sft_term(objective: Objective) -> tuple[list[float], int]:
    """Weights of the first ``WeightedSum`` with an SFT term, also inside a modifier, and the place of that term."""
    for module in objective.modules():
        if isinstance(module, WeightedSum):
            for place, term in enumerate(module.objectives):
                if isinstance(term, SFT):
                    return module.weights, place
    raise ConfigError(
        "DisplacementGuard is to raise the weight of an SFT term, but model.objective, "
        f"{type(objective).__name__}, has none.\n"
        "  Fix: a WeightedSum with an SFT term, such as -c configs/objectives/dpo_sft.yaml."
    )
