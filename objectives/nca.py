"""NCA: Chen, He, Yuan, Cui, Su, Zhu, NeurIPS 2024, https://arxiv.org/abs/2402.05369"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def nca_losses(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Tensor:
    """-log σ(r⁺) - ½·log σ(-r⁺) - ½·log σ(-r⁻)

    Args:
        chosen_rewards: (B,) r⁺ = β times the log-ratio of the chosen response.
        rejected_rewards: (B,) r⁻ likewise.

    Returns:
        (B,) losses, the pairwise case of the paper's section 4.1; 2·ln 2 where policy and reference agree.
    """
    return -F.logsigmoid(chosen_rewards) - 0.5 * (F.logsigmoid(-chosen_rewards) + F.logsigmoid(-rejected_rewards))


class NCA(Objective):
    """Noise contrastive alignment on pairs: bounds each reward, not only their difference.

    Args:
        beta: the paper's α, per nat; positive. The paper uses 0.01.
    """

    def __init__(self, beta: float = 0.01) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        self.beta = beta

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = (self.beta * ratios for ratios in log_ratios(policy, reference))  # (B,), (B,)
        return ObjectiveOutput(nca_losses(chosen, rejected), chosen.detach(), rejected.detach())
