"""CPO: Xu, Sharaf, Chen, Tan, Shen, Van Durme, Murray, Kim, ICML 2024, https://arxiv.org/abs/2401.08417"""

from .base import Objective, ObjectiveOutput, PairScores, require
from .dpo import dpo_losses
from .sft import Reduction, require_reduction, sft_losses


class CPO(Objective):
    """Contrastive preference optimization: -log σ(β·(log π(y⁺|x) - log π(y⁻|x))) + α times the likelihood of y⁺.

    DPO against a uniform reference, equation 3 of the paper, and a likelihood term that takes the reference's place.
    Rewards are β times the log-probabilities.

    Args:
        beta: per nat; positive. The paper uses 0.1.
        alpha: weight of the negative log-likelihood, at least 0; 1 in the paper and TRL ("cpo_alpha").
        reduction: of the likelihood: ``sum``, ``mean`` per token of each response, or ``tokens`` as in TRL.
        label_smoothing: assumed share of flipped labels, 0 <= ε < 0.5.
    """

    needs_reference = False

    def __init__(
        self,
        beta: float = 0.1,
        alpha: float = 1.0,
        reduction: Reduction = "tokens",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 <= alpha < float("inf"), "alpha", alpha, "at least 0")
        require_reduction(reduction)
        require(0 <= label_smoothing < 0.5, "label_smoothing", label_smoothing, "at least 0 and below 0.5")
        self.beta = beta
        self.alpha = alpha
        self.reduction = reduction
        self.couples_pairs = reduction == "tokens" and alpha > 0
        self.label_smoothing = label_smoothing

    def forward(self, policy: PairScores, reference: PairScores | None = None) -> ObjectiveOutput:
        chosen, rejected = policy.chosen.logps, policy.rejected.logps  # (B,), (B,)
        preference = dpo_losses(chosen - rejected, self.beta, self.label_smoothing)
        losses = preference + self.alpha * sft_losses(policy.chosen, self.reduction)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
