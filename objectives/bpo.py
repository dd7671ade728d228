"""BPO, balanced preference optimization: Sun, Liu, Liu, Li, Lu, Wu, 2025, https://arxiv.org/abs/2506.03557"""

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def bpo_losses(chosen_log_ratios: Tensor, rejected_log_ratios: Tensor, beta: float, alpha: float) -> Tensor:
    """-log σ(β·min(a, -α·b))

    Args:
        chosen_log_ratios: (B,) a, nats.
        rejected_log_ratios: (B,) b, nats.
        beta: β, per nat.
        alpha: α, the gap adaptor.

    Returns:
        (B,) losses; ln 2 where policy and reference agree.
    """
    return -F.logsigmoid(beta * torch.minimum(chosen_log_ratios, -alpha * rejected_log_ratios))


class BPO(Objective):
    """Only the side that lags behind is trained: the chosen response rises, or the rejected one falls.

    Where both are level the gradient is halved between them.

    Args:
        beta: per nat; positive.
        alpha: gap adaptor of the paper, 0 < α <= 1: below 1 the rejected side has to fall further. The authors'
            released loss has none, which is 1.
    """

    def __init__(self, beta: float = 0.1, alpha: float = 1.0) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 < alpha <= 1, "alpha", alpha, "above 0 and at most 1")
        self.beta = beta
        self.alpha = alpha

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = bpo_losses(chosen, rejected, self.beta, self.alpha)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
