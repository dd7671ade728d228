"""RPO: DPO with a likelihood term.

Pang, Yuan, Cho, He, Sukhbaatar, Weston, NeurIPS 2024, https://arxiv.org/abs/2404.19733
Liu, Lu, Zhang, Liu, Guo, Yang, Blanchet, Wang, NeurIPS 2024, https://arxiv.org/abs/2405.16436
"""

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require
from .dpo import dpo_losses
from .sft import Reduction, require_reduction, sft_losses


class RPO(Objective):
    """DPO + α times the negative log-likelihood of the chosen response.

    Implementations disagree on the likelihood, and an α for one reduction is meaningless for another: ``mean`` per
    response token of each sequence is Pang et al., OpenRLHF and LLaMA-Factory; ``tokens``, over all chosen tokens of
    a process's batch, is TRL; ``sum`` is Razin et al. and NeMo-RL.

    Args:
        beta: per nat; positive. Pang et al. use 0.1.
        alpha: weight of the likelihood, at least 0; 0 is DPO. Pang et al. use 1, Liu et al. 0.005.
        reduction: ``sum``, ``mean`` or ``tokens``, of the likelihood alone.
    """

    def __init__(self, beta: float = 0.1, alpha: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 <= alpha < float("inf"), "alpha", alpha, "at least 0")
        require_reduction(reduction)
        self.beta = beta
        self.alpha = alpha
        self.reduction = reduction
        self.couples_pairs = reduction == "tokens" and alpha > 0

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        preference = dpo_losses(chosen - rejected, self.beta)
        losses = preference + self.alpha * sft_losses(policy.chosen, self.reduction)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
