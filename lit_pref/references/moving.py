"""A reference that follows the policy: TR-DPO (Gorbatovski et al. 2024, https://arxiv.org/abs/2404.09656)."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from objectives import PairScores

from ..batch import PreferenceBatch
from ..errors import ConfigError
from ..models import CausalLM
from ..scoring import SUMS, Wanted, score
from ..sharding import writable
from .frozen import FrozenModel


class MovingModel(FrozenModel):
    """Every ``every_n_steps`` optimizer steps the reference moves: ref <- alpha * policy + (1 - alpha) * ref.

    A third model, frozen at the start, keeps the zero of displacement. The moving weights are in the checkpoint.

    Args:
        alpha: how far it moves, above 0 and at most 1 (1: a hard update). TRL's default is 0.6.
        every_n_steps: optimizer steps between two moves; TRL's default is 512.
        model: where it starts; by default at the policy's own source.
    """

    moves = True

    def __init__(self, alpha: float = 0.6, every_n_steps: int = 512, model: CausalLM | None = None) -> None:
        super().__init__(model)
        if not 0 < alpha <= 1:
            raise ConfigError(f"model.reference.alpha is {alpha}, but must be above 0 and at most 1")
        if every_n_steps < 1:
            raise ConfigError(f"model.reference.every_n_steps is {every_n_steps}, but must be at least 1")
        self.alpha = alpha
        self.every_n_steps = every_n_steps
        self.moving: nn.Module | None = None

    def build(self, policy: CausalLM) -> None:
        if policy.lora is not None:
            raise ConfigError(
                "model.reference is MovingModel, but a policy with adapters has no full weights to follow"
            )
        super().build(policy)
        if self.moving is None:
            self.moving = (self.source or policy).build_frozen()

    @torch.no_grad()
    def score(self, policy: nn.Module, batch: PreferenceBatch, wanted: Wanted = SUMS) -> PairScores:
        assert self.moving is not None, "build was not called"
        return score(self.moving, batch, wanted)

    def initial(self, policy: nn.Module, batch: PreferenceBatch, reference: PairScores | None) -> PairScores | None:
        return super().score(policy, batch)

    def model_of(self, policy: nn.Module, initial: bool = False) -> AbstractContextManager[nn.Module | None]:
        return nullcontext(self.frozen if initial else self.moving)

    @torch.no_grad()
    def after_step(self, policy: nn.Module, steps: int) -> None:
        if steps % self.every_n_steps == 0:
            assert self.moving is not None
            for old, new in zip(self.moving.parameters(), policy.parameters(), strict=True):
                with writable(old, new):
                    old.lerp_(new.to(old.dtype), self.alpha)
