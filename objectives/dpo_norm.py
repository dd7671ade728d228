"""Length-normalised DPO, the loss of Tülu 3: Lambert et al., 2024, https://arxiv.org/abs/2411.15124"""

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require
from .dpo import dpo_losses


class DPONorm(Objective):
    """DPO on log-ratios per response token: -log σ(β·(a/|y⁺| - b/|y⁻|)).

    Called ``dpo_norm`` in open-instruct and ``sigmoid_norm`` in TRL. Rewards are β times the log-ratio per token.

    Args:
        beta: per nat per token, so larger than DPO's; positive. Tülu 3 uses 5.
    """

    def __init__(self, beta: float = 5.0) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        self.beta = beta

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        chosen, rejected = chosen / policy.chosen.lengths, rejected / policy.rejected.lengths
        losses = dpo_losses(chosen - rejected, self.beta)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
