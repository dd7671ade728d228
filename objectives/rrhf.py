"""RRHF: Yuan, Yuan, Tan, Wang, Huang, Huang, NeurIPS 2023, https://arxiv.org/abs/2304.05302"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it

from .base import Objective, ObjectiveOutput, PairScores, require
from .sft import Reduction, require_reduction, sft_losses


class RRHF(Objective):
    """Rank responses to align: w·max(0, p⁻ - p⁺) + likelihood of y⁺, p being log-probabilities per token.

    The paper ranks several responses; of a pair this is all that remains. Its likelihood is a sum over tokens; the
    authors' code averages it over the padded row instead, which ``mean`` comes nearest to. Rewards are the
    log-probabilities per token.

    Args:
        rank_weight: w, weight of the ranking term, at least 0; 1 in the paper.
        reduction: of the likelihood: ``sum``, ``mean`` or ``tokens``.
    """

    needs_reference = False

    def __init__(self, rank_weight: float = 1.0, reduction: Reduction = "sum") -> None:
        super().__init__()
        require(0 <= rank_weight < float("inf"), "rank_weight", rank_weight, "at least 0")
        require_reduction(reduction)
        self.rank_weight = rank_weight
        self.reduction = reduction
        self.couples_pairs = reduction == "tokens"

    def forward(self, policy: PairScores, reference: PairScores | None = None) -> ObjectiveOutput:
        chosen, rejected = policy.chosen.mean_logps, policy.rejected.mean_logps  # (B,), (B,)
        losses = self.rank_weight * F.relu(rejected - chosen) + sft_losses(policy.chosen, self.reduction)
        return ObjectiveOutput(losses, chosen.detach(), rejected.detach())
