"""WPO: Zhou, Agrawal, Zhang, Indurthi, Zhao, Song, Xu, Zhu, EMNLP 2024, https://arxiv.org/abs/2406.11827"""

import torch
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, SequenceScores
from .modifier import Modifier, tokens_of


def on_policy_weight(scores: SequenceScores) -> Tensor:
    """exp( 1/|y| Σ_t [log π(y_t) - log Σ_z π(z)²] ), (B,), detached: how likely the policy itself is to write y.

    The paper's "sampled alignment": 1 where every token is as likely as a sample of the policy is
    on average.
    """
    tokens = tokens_of(scores)
    excess = tokens.logps.detach() - tokens.log_collisions  # (N,)
    sums = torch.zeros_like(scores.logps.detach()).index_add(0, tokens.sequence, excess)  # (B,)
    return (sums / scores.lengths).exp()


class WPO(Modifier):
    """Weights each pair's loss by how likely the policy is to write both responses: off-policy pairs count less.

    Args:
        objective: what is weighted.
        clamp: keep the weight of a pair at 1 at most, as the authors and TRL up to 0.28 do; False is the bare
            product, as in TRL 1.x.
    """

    needs_tokens = True

    def __init__(self, objective: Objective, clamp: bool = True) -> None:
        super().__init__(objective)
        self.clamp = clamp

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        output = self.inner(policy, reference)
        weights = on_policy_weight(policy.chosen) * on_policy_weight(policy.rejected)  # (B,)
        if self.clamp:
            weights = weights.clamp(max=1)
        return output._replace(losses=weights * output.losses)
