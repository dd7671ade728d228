"""APO: anchored preference optimization.

D'Oosterlinck, Xu, Develder, Demeester, Singh, Potts, Kiela, Mehri, TACL 2025, https://arxiv.org/abs/2408.06266
"""

import torch
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def apo_zero_losses(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Tensor:
    """σ(-r⁺) + σ(r⁻), r being β times a log-ratio: equation 7; (B,), 1 where policy and reference agree."""
    return torch.sigmoid(-chosen_rewards) + torch.sigmoid(rejected_rewards)


def apo_down_losses(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Tensor:
    """σ(r⁺) + σ(-(r⁺ - r⁻)): equation 8; (B,), 1 where policy and reference agree."""
    return torch.sigmoid(chosen_rewards) + torch.sigmoid(rejected_rewards - chosen_rewards)


class APOZero(Objective):
    """Anchored preference optimization for chosen responses better than the policy's own: up with them.

    Args:
        beta: per nat; positive. The paper uses 0.1.
    """

    def __init__(self, beta: float = 0.1) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        self.beta = beta

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = (self.beta * ratios for ratios in log_ratios(policy, reference))  # (B,), (B,)
        return ObjectiveOutput(apo_zero_losses(chosen, rejected), chosen.detach(), rejected.detach())


class APODown(Objective):
    """Anchored preference optimization for chosen responses worse than the policy's own: down with both, rejected more.

    It lowers chosen likelihoods on purpose.

    Args:
        beta: per nat; positive. The paper uses 0.1.
    """

    def __init__(self, beta: float = 0.1) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        self.beta = beta

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = (self.beta * ratios for ratios in log_ratios(policy, reference))  # (B,), (B,)
        return ObjectiveOutput(apo_down_losses(chosen, rejected), chosen.detach(), rejected.detach())


class APOZeroUnpaired(Objective):
    """APO-zero on responses that are not pairs: chosen and rejected ones have weights of their own.

    Equal to ``APOZero`` where both weights are 1, and to ``KTO`` where its KL estimate is 0. A pair's loss is the sum
    of both responses' losses; TRL's KTO trainer averages over responses, which halves it.

    Args:
        beta: per nat; positive. The paper uses 0.1.
        desirable_weight: weight of the chosen response; positive.
        undesirable_weight: weight of the rejected response; positive.
    """

    def __init__(self, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 < desirable_weight < float("inf"), "desirable_weight", desirable_weight, "a positive number")
        require(0 < undesirable_weight < float("inf"), "undesirable_weight", undesirable_weight, "a positive number")
        self.beta = beta
        self.desirable_weight = desirable_weight
        self.undesirable_weight = undesirable_weight

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = (self.beta * ratios for ratios in log_ratios(policy, reference))  # (B,), (B,)
        losses = self.desirable_weight * torch.sigmoid(-chosen) + self.undesirable_weight * torch.sigmoid(rejected)
        return ObjectiveOutput(losses, chosen.detach(), rejected.detach())
