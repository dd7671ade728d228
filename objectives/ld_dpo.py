"""LD-DPO: Liu, Zhou, Zhao et al., "Length Desensitization in DPO", 2024, https://arxiv.org/abs/2409.06411"""

from typing import Literal

import torch
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, SequenceScores, require
from .modifier import Modifier, tokens_of


def desensitized(scores: SequenceScores, shared_length: Tensor, alpha: float) -> SequenceScores:
    """Scores with logps = Σ_{t <= l} log π(y_t) + α Σ_{t > l} log π(y_t), l the shorter length of each pair.

    Args:
        scores: one side of B pairs, with tokens.
        shared_length: (B,) l.
        alpha: α, from 0 to 1.
    """
    tokens = tokens_of(scores)
    public = tokens.position < shared_length[tokens.sequence]  # (N,)
    weighted = torch.where(public, tokens.logps, alpha * tokens.logps)
    return scores._replace(logps=torch.zeros_like(scores.logps).index_add(0, tokens.sequence, weighted))


class LengthDesensitized(Modifier):
    """Gives the tokens of the longer response that lie beyond the shorter one's length a smaller weight.

    Args:
        objective: what sees the changed log-probabilities.
        alpha: weight of those tokens, from 0 to 1; 1 changes nothing.
        sides: "both" changes policy and reference (TRL 1.x), "policy" the policy alone (LLaMA-Factory, ms-swift,
            TRL up to 0.28): the two differ by a constant that depends on the reference.
    """

    needs_tokens = True

    def __init__(self, objective: Objective, alpha: float = 0.5, sides: Literal["both", "policy"] = "both") -> None:
        super().__init__(objective)
        require(0 <= alpha <= 1, "alpha", alpha, "from 0 to 1")
        require(sides in ("both", "policy"), "sides", sides, "'both' or 'policy'")
        self.alpha = alpha
        self.sides = sides

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        shared = torch.minimum(policy.chosen.lengths, policy.rejected.lengths)  # (B,)
        policy = self._shortened(policy, shared)
        if reference is not None and self.sides == "both":
            reference = self._shortened(reference, shared)
        return self.inner(policy, reference)

    def _shortened(self, scores: PairScores, shared: Tensor) -> PairScores:
        chosen, rejected = (desensitized(side, shared, self.alpha) for side in (scores.chosen, scores.rejected))
        return scores._replace(chosen=chosen, rejected=rejected)
