"""f-DPO: Wang, Jiang, Yang, Liu, Chen, ICLR 2024, https://arxiv.org/abs/2309.16240"""

import math
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require
from .dpo import dpo_losses

#: Exponents above it are cut off there (as in TRL): beyond, a response's score and its gradient stand still.
LARGEST_EXPONENT = 80.0
DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")


def divergence_scores(log_ratios: Tensor, divergence: str, alpha: float) -> Tensor:
    """f'(u) up to a constant, u = π/π_ref: what takes the place of log u where f takes the place of the reverse KL.

    Args:
        log_ratios: (B,) log u, nats.
        divergence: reverse KL log u; forward KL 1 - 1/u; Jensen-Shannon log(2u/(1+u)); alpha (1 - u^-α)/α.
        alpha: α of the alpha divergence; towards 0 it is the reverse, towards 1 the forward KL.

    Returns:
        (B,) scores; 0 where policy and reference agree.
    """
    if divergence == "reverse_kl":
        return log_ratios
    if divergence == "js_divergence":
        return math.log(2) + F.logsigmoid(log_ratios)
    if divergence == "forward_kl":
        alpha = 1.0
    return -torch.expm1((-alpha * log_ratios).clamp(max=LARGEST_EXPONENT)) / alpha


class FDPO(Objective):
    """DPO whose policy is kept near the reference by any of four f-divergences; the reverse KL is DPO itself.

    Rewards are β times the scores. Where a policy's likelihood has fallen by more than 80 nats (80/α), forward KL and
    alpha divergence stop following it.

    Args:
        beta: per unit of score; positive.
        divergence: ``reverse_kl``, ``forward_kl``, ``js_divergence`` or ``alpha_divergence``.
        alpha: the paper's α, 0 < α < 1, read by ``alpha_divergence`` alone. TRL 1.x asks for 1 - α.
    """

    def __init__(
        self,
        beta: float = 0.1,
        divergence: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = "js_divergence",
        alpha: float = 0.5,
    ) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(divergence in DIVERGENCES, "divergence", divergence, f"one of {', '.join(DIVERGENCES)}")
        require(0 < alpha < 1, "alpha", alpha, "above 0 and below 1")
        self.beta = beta
        self.divergence = divergence
        self.alpha = alpha

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = (
            divergence_scores(ratios, self.divergence, self.alpha) for ratios in log_ratios(policy, reference)
        )  # (B,), (B,)
        losses = dpo_losses(chosen - rejected, self.beta)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
