"""The policy without its adapters: a reference that costs no memory. Knows nothing about objectives or loops."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from objectives import PairScores

from ..batch import PreferenceBatch
from ..errors import ConfigError
from ..models import CausalLM
from ..scoring import SUMS, Wanted, score
from .base import Reference


class AdaptersOff(Reference):
    """The policy itself with its adapters switched off: needs no second model, but a policy with ``lora``."""

    def build(self, policy: CausalLM) -> None:
        if policy.lora is None:
            raise ConfigError(
                "model.reference is AdaptersOff, but the policy has no adapters to switch off.\n"
                "  Fix: set model.policy.lora, or use lit_pref.references.FrozenModel."
            )

    @torch.no_grad()
    def score(self, policy: nn.Module, batch: PreferenceBatch, wanted: Wanted = SUMS) -> PairScores:
        training = policy.training
        policy.eval()  # a reference has no dropout, and no use for checkpointed gradients
        with policy.disable_adapter():  # type: ignore[operator]
            scores = score(policy, batch, wanted)
        policy.train(training)
        return scores

    @contextmanager
    def model_of(self, policy: nn.Module, initial: bool = False) -> Iterator[nn.Module]:
        with policy.disable_adapter():  # type: ignore[operator]
            yield policy
