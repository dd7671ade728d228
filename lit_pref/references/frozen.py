"""A second model in memory that never changes. Knows nothing about objectives or training loops."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from objectives import PairScores

from ..batch import PreferenceBatch
from ..models import CausalLM
from ..scoring import SUMS, Wanted, score
from .base import Reference


class FrozenModel(Reference):
    """A second, frozen model in memory.

    It is loaded from its source, never copied from the policy: a copy of partitioned weights would be empty.

    Args:
        model: where it comes from; by default the policy's own source, so that training starts at the reference.
    """

    def __init__(self, model: CausalLM | None = None) -> None:
        super().__init__()
        self.source = model
        self.frozen: nn.Module | None = None

    def build(self, policy: CausalLM) -> None:
        if self.frozen is None:
            self.frozen = (self.source or policy).build_frozen()

    def origin(self, policy: CausalLM) -> CausalLM:
        return self.source or policy

    @torch.no_grad()
    def score(self, policy: nn.Module, batch: PreferenceBatch, wanted: Wanted = SUMS) -> PairScores:
        assert self.frozen is not None, "build was not called"
        return score(self.frozen, batch, wanted)

    def model_of(self, policy: nn.Module, initial: bool = False) -> AbstractContextManager[nn.Module | None]:
        return nullcontext(self.frozen)
