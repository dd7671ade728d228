"""DPO-Shift: Yang, Jiang, Zhang, Zhao, Li, 2025, https://arxiv.org/abs/2502.07599"""

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require
from .weighted_dpo import weighted_dpo_losses


class DPOShift(Objective):
    """DPO whose rejected reward counts less: -log σ(β·(a - λ·b)), λ <= 1, fixed or linear in the share of steps taken.

    A smaller λ gives up margin for the likelihood of the chosen response. λ runs from ``shift`` to ``final_shift``:
    the paper's "fixed" leaves the second out, its "linear_increase" and "linear_decrease" give a larger or a smaller
    one. In validation λ is that of the last training step.

    Args:
        beta: per nat; positive. The paper uses 0.01.
        shift: λ at the first step, 0 < λ <= 1; 1 is DPO. The paper's fixed values are 0.5 to 1.
        final_shift: λ after the last step, 0 < λ <= 1; the same as ``shift`` where it is not given.
    """

    def __init__(self, beta: float = 0.01, shift: float = 0.75, final_shift: float | None = None) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 < shift <= 1, "shift", shift, "above 0 and at most 1")
        final_shift = shift if final_shift is None else final_shift
        require(0 < final_shift <= 1, "final_shift", final_shift, "above 0 and at most 1")
        self.beta = beta
        self.shift = shift
        self.final_shift = final_shift

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        shift = self.shift + (self.final_shift - self.shift) * self.progress
        losses = weighted_dpo_losses(chosen, rejected, self.beta, 1.0, shift)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
