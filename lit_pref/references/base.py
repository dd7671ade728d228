"""What the policy is compared with. Knows nothing about objectives or training loops.

A reference is a module beside the policy, so that a strategy moves and shards it too.
"""

from contextlib import AbstractContextManager, nullcontext

import lightning.pytorch as pl
from torch import nn

from objectives import PairScores

from ..batch import PreferenceBatch
from ..models import CausalLM
from ..scoring import SUMS, Wanted


class Reference(nn.Module):
    """Scores pairs for the objective to compare with. Subclasses say where those scores come from.

    What a subclass keeps in a submodule named ``frozen`` comes from its source again and is never in a checkpoint.

    Attributes:
        moves: whether its scores change while training runs; who keeps scores asks again only where they do.
    """

    moves: bool = False

    def build(self, policy: CausalLM) -> None:
        """Make ready what scoring needs; called once, before training, with the source of the policy."""

    def origin(self, policy: CausalLM) -> CausalLM | None:
        """Where the model comes from that displacement starts from; None where there is none.

        Args:
            policy: the source of the policy.
        """
        return policy

    def prepare(self, trainer: pl.Trainer) -> None:
        """Called where a loop starts, on every process, before anything is scored."""

    def score(self, policy: nn.Module, batch: PreferenceBatch, wanted: Wanted = SUMS) -> PairScores | None:
        """Scores of the batch under the reference, without gradient, or None where there is no reference."""
        raise NotImplementedError(f"{type(self).__name__} must define score(policy, batch, wanted)")

    def initial(self, policy: nn.Module, batch: PreferenceBatch, reference: PairScores | None) -> PairScores | None:
        """Scores under the policy as training found it, the zero of displacement: those of the reference, unless it
        moves."""
        return reference

    def model_of(self, policy: nn.Module, initial: bool = False) -> AbstractContextManager[nn.Module | None]:
        """The model that ``score`` asks, for as long as the context lasts; None where there is none to ask.

        Who asks it in the very calls that the policy is asked in gets the same numbers from the same weights.

        Args:
            policy: the model that is trained.
            initial: the model that ``initial`` asks, in its place.
        """
        return nullcontext(None)

    def after_step(self, policy: nn.Module, steps: int) -> None:
        """Called after each optimizer step with the number of steps taken."""
