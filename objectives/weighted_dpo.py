"""DPO with a weight a side: Razin et al., ICLR 2025, appendix E, https://arxiv.org/abs/2410.08847"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def weighted_dpo_losses(
    chosen_log_ratios: Tensor,
    rejected_log_ratios: Tensor,
    beta: float,
    chosen_weight: float,
    rejected_weight: float,
) -> Tensor:
    """-log σ(β·(λ⁺·a - λ⁻·b))

    Args:
        chosen_log_ratios: (B,) a, nats.
        rejected_log_ratios: (B,) b, nats.
        beta: β, per nat.
        chosen_weight: λ⁺.
        rejected_weight: λ⁻.

    Returns:
        (B,) losses; ln 2 where policy and reference agree.
    """
    return -F.logsigmoid(beta * (chosen_weight * chosen_log_ratios - rejected_weight * rejected_log_ratios))


class WeightedDPO(Objective):
    """DPO with unequal weights of the two log-ratios, the family of the paper's proposition 2.

    With λ⁺ > λ⁻ a step adds a multiple of ‖∇ log π(y⁺|x)‖² to the change of log π(y⁺|x), as an SFT term does.

    Args:
        beta: per nat; positive.
        chosen_weight: λ⁺, at least 0.
        rejected_weight: λ⁻, at least 0; equal weights are DPO with another β.
    """

    def __init__(self, beta: float = 0.1, chosen_weight: float = 1.0, rejected_weight: float = 0.5) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 <= chosen_weight < float("inf"), "chosen_weight", chosen_weight, "at least 0")
        require(0 <= rejected_weight < float("inf"), "rejected_weight", rejected_weight, "at least 0")
        self.beta = beta
        self.chosen_weight = chosen_weight
        self.rejected_weight = rejected_weight

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = weighted_dpo_losses(chosen, rejected, self.beta, self.chosen_weight, self.rejected_weight)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
