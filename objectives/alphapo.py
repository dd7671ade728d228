"""AlphaPO: Gupta et al., ICML 2025, https://arxiv.org/abs/2501.03884"""

import torch
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, require
from .simpo import simpo_losses

#: Exponents above it are cut off there: beyond, a response's reward and its gradient stand still.
LARGEST_EXPONENT = 80.0


def alphapo_rewards(mean_logps: Tensor, alpha: float) -> Tensor:
    """(1 - p^-α)/α, p = exp(mean_logps) being the probability per token; log p in the limit of α = 0; (B,)."""
    if alpha == 0:
        return mean_logps
    return -torch.expm1((-alpha * mean_logps).clamp(max=LARGEST_EXPONENT)) / alpha


class AlphaPO(Objective):
    """SimPO with another reward shape: -log σ(β·(r(y⁺) - r(y⁻)) - γ), r = (1 - p^-α)/α instead of log p.

    Positive α weighs unlikely responses more, negative α less. γ is absolute, as in TRL.

    Args:
        beta: scale of the rewards; positive. The paper uses 2.5 for Mistral-Instruct.
        gamma: γ, the margin to reach, at least 0; the paper uses 0.1 there.
        alpha: α, shape of the reward, any number; 0 is SimPO. The paper uses 0.25 there.
    """

    needs_reference = False

    def __init__(self, beta: float = 2.5, gamma: float = 0.1, alpha: float = 0.25) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 <= gamma < float("inf"), "gamma", gamma, "at least 0")
        require(abs(alpha) < float("inf"), "alpha", alpha, "a finite number")
        self.beta = beta
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, policy: PairScores, reference: PairScores | None = None) -> ObjectiveOutput:
        chosen = alphapo_rewards(policy.chosen.mean_logps, self.alpha)  # (B,)
        rejected = alphapo_rewards(policy.rejected.mean_logps, self.alpha)  # (B,)
        losses = simpo_losses(chosen - rejected, self.beta, self.gamma)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
