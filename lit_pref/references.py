"""What the policy is compared with. Knows nothing about objectives or training loops.

A reference is a module beside the policy, so that a strategy moves and shards it too.
"""

import torch
from torch import nn

from objectives import PairScores

from .batch import PreferenceBatch
from .errors import ConfigError
from .models import CausalLM
from .scoring import score


class Reference(nn.Module):
    """Scores pairs as the initial policy did. Subclasses say where those scores come from."""

    def build(self, policy: CausalLM) -> None:
        """Make ready what scoring needs; called once, before training, with the source of the policy."""

    def score(self, policy: nn.Module, batch: PreferenceBatch) -> PairScores | None:
        """Scores of the batch under the reference, without gradient, or None where there is no reference."""
        raise NotImplementedError(f"{type(self).__name__} must define score(policy, batch)")


class FrozenModel(Reference):
    """A second, frozen model in memory.

    It is loaded from its source, never copied from the policy: a copy of partitioned weights would be empty.

    Args:
        model: where it comes from; by default the policy's own source, so that training starts at the reference.
    """

    def __init__(self, model: CausalLM | None = None) -> None:
        super().__init__()
        self.source = model
        self.model: nn.Module | None = None

    def build(self, policy: CausalLM) -> None:
        if self.model is None:
            self.model = (self.source or policy).build_frozen()

    @torch.no_grad()
    def score(self, policy: nn.Module, batch: PreferenceBatch) -> PairScores:
        if self.model is None:
            raise RuntimeError("FrozenModel.build was not called")
        return score(self.model, batch)


class AdaptersOff(Reference):
    """The policy itself with its adapters switched off: needs no second model, but a policy with ``lora``."""

    def build(self, policy: CausalLM) -> None:
        if policy.lora is None:
            raise ConfigError(
                "model.reference is AdaptersOff, but the policy has no adapters to switch off.\n"
                "  Fix: set model.policy.lora, or use lit_pref.references.FrozenModel."
            )

    @torch.no_grad()
    def score(self, policy: nn.Module, batch: PreferenceBatch) -> PairScores:
        training = policy.training
        policy.eval()  # a reference has no dropout, and no use for checkpointed gradients
        with policy.disable_adapter():  # type: ignore[operator]
            scores = score(policy, batch)
        policy.train(training)
        return scores


class NoReference(Reference):
    """No reference at all: for reference-free objectives where nothing else asks for one."""

    def score(self, policy: nn.Module, batch: PreferenceBatch) -> None:
        return None
