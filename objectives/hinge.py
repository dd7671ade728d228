"""Hinge with a reference, the loss of RSO.

Liu, Zhao, Joshi, Khalman, Saleh, Liu, Liu, ICLR 2024, https://arxiv.org/abs/2309.06657
"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def hinge_losses(log_ratio_margins: Tensor, beta: float) -> Tensor:
    """max(0, 1 - βΔ)

    Args:
        log_ratio_margins: (B,) Δ, nats.
        beta: β, per nat; the paper's γ.

    Returns:
        (B,) losses, the paper's "hinge-norm" loss; 1 where policy and reference agree.
    """
    return F.relu(1 - beta * log_ratio_margins)


class Hinge(Objective):
    """Hinge on the margin of log-ratios; ``SLiC`` is the one without a reference.

    Args:
        beta: the paper's γ, per nat; positive. A margin of 1/β is enough. The paper uses 0.05.
    """

    def __init__(self, beta: float = 0.05) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        self.beta = beta

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = hinge_losses(chosen - rejected, self.beta)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
