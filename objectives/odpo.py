"""ODPO: Amini, Vieira, Cotterell, Findings of ACL 2024, https://arxiv.org/abs/2402.10571"""

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .annotated import annotated_rewards
from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def odpo_losses(log_ratio_margins: Tensor, reward_gaps: Tensor, beta: float, alpha: float) -> Tensor:
    """-log σ(βΔ - α·log(r⁺ - r⁻))

    Args:
        log_ratio_margins: (B,) Δ, nats.
        reward_gaps: (B,) r⁺ - r⁻, annotated; positive.
        beta: β, per nat.
        alpha: α, scale of the offset; the offset is negative where the gap is below 1.

    Returns:
        (B,) losses; DPO's where α is 0 or the gap is 1.
    """
    return -F.logsigmoid(beta * log_ratio_margins - alpha * torch.log(reward_gaps))


class ODPO(Objective):
    """DPO with an offset: the better the chosen response is by its reward, the larger the margin to reach.

    Pairs whose chosen reward is not above the rejected one are refused: their logarithm does not exist.

    Args:
        beta: per nat; positive.
        alpha: scale of the offset, at least 0; the authors' code uses 1.
    """

    needs_rewards = True

    def __init__(self, beta: float = 0.1, alpha: float = 1.0) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 <= alpha < float("inf"), "alpha", alpha, "at least 0")
        self.beta = beta
        self.alpha = alpha

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        better, worse = annotated_rewards(policy)  # (B,), (B,)
        losses = odpo_losses(chosen - rejected, better - worse, self.beta, self.alpha)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())

    def unusable_rewards(self, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, str]:
        return ~(chosen > rejected), "ODPO needs every chosen_reward above rejected_reward"
