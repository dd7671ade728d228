"""KTO: Ethayarajh, Xu, Muennighoff, Jurafsky, Kiela, ICML 2024, https://arxiv.org/abs/2402.01306"""

import torch
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require
from .processes import sum_over_processes


def mismatched_kl(policy: PairScores, reference: PairScores) -> Tensor:
    """z₀ = max(0, mean log-ratio of prompts paired with other prompts' responses), detached, () nats.

    The mean is over the mismatched responses of all processes, each counting once (TRL averages the processes' means).
    """
    if policy.mismatched is None or reference.mismatched is None:
        raise ValueError(
            "KTO compares rewards with a KL divergence estimated on prompts with other prompts' responses, but the "
            "scores hold none: policy and reference must both score mismatched pairs (needs_mismatched)"
        )
    ratios = torch.cat(log_ratios(policy.mismatched, reference.mismatched)).detach().float()  # (2M,)
    total, count = sum_over_processes(torch.stack([ratios.sum(), ratios.new_tensor(len(ratios))]))
    return (total / count.clamp(min=1)).clamp(min=0)


class KTO(Objective):
    """Kahneman-Tversky optimization of pairs: λ_D·(1 - σ(β(a - z₀))) + λ_U·(1 - σ(β(z₀ - b))).

    The chosen response counts as a desirable and the rejected one as an undesirable example of its own; a and b are
    their log-ratios. A pair's loss is the sum of both; TRL and HALOs average over examples, which halves it. Rewards
    are β times the log-ratio (HALOs logs them without β).

    Args:
        beta: per nat; positive. The paper uses 0.1.
        desirable_weight: λ_D, weight of the chosen response; positive.
        undesirable_weight: λ_U, weight of the rejected response; positive.
    """

    needs_mismatched = True
    couples_pairs = True

    def __init__(self, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 < desirable_weight < float("inf"), "desirable_weight", desirable_weight, "a positive number")
        require(0 < undesirable_weight < float("inf"), "undesirable_weight", undesirable_weight, "a positive number")
        self.beta = beta
        self.desirable_weight = desirable_weight
        self.undesirable_weight = undesirable_weight

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        assert reference is not None  # log_ratios refuses None
        kl = mismatched_kl(policy, reference)
        desirable = self.desirable_weight * torch.sigmoid(self.beta * (kl - chosen))  # 1 - σ(z) = σ(-z)
        undesirable = self.undesirable_weight * torch.sigmoid(self.beta * (rejected - kl))
        return ObjectiveOutput(desirable + undesirable, self.beta * chosen.detach(), self.beta * rejected.detach())
