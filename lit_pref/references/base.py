"""What the policy is compared with. Knows nothing about objectives or training loops.

A reference is a module beside the policy, so that a strategy moves and shards it too.
"""

import lightning.pytorch as pl
from torch import nn

from objectives import PairScores

from ..batch import PreferenceBatch
from ..models import CausalLM
from ..scoring import SUMS, Wanted


class Reference(nn.Module):
    """Scores pairs for the objective to compare with. Subclasses say where those scores come from.

    What a subclass keeps in a submodule named ``frozen`` comes from its source again and is never in a checkpoint.
    """

    def build(self, policy: CausalLM) -> None:
        """Make ready what scoring needs; called once, before training, with the source of the policy."""

    def prepare(self, trainer: pl.Trainer) -> None:
        """Called where a loop starts, on every process, before anything is scored."""

    def score(self, policy: nn.Module, batch: PreferenceBatch, wanted: Wanted = SUMS) -> PairScores | None:
        """Scores of the batch under the reference, without gradient, or None where there is no reference."""
        raise NotImplementedError(f"{type(self).__name__} must define score(policy, batch, wanted)")

    def initial(self, policy: nn.Module, batch: PreferenceBatch, reference: PairScores | None) -> PairScores | None:
        """Scores under the policy as training found it, the zero of displacement: those of the reference, unless it
        moves."""
        return reference

    def after_step(self, policy: nn.Module, steps: int) -> None:
        """Called after each optimizer step with the number of steps taken."""
