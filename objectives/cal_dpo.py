"""Cal-DPO: Xiao, Yuan, Zhu, Li, Honavar, NeurIPS 2024, https://arxiv.org/abs/2412.14516"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def cal_dpo_losses(chosen_log_ratios: Tensor, rejected_log_ratios: Tensor, beta: float) -> Tensor:
    """-log σ(a - b) + ½·[(a - 1/(2β))² + (b + 1/(2β))²]

    Args:
        chosen_log_ratios: (B,) a, nats; calibrated to 1/(2β).
        rejected_log_ratios: (B,) b, nats; calibrated to -1/(2β).
        beta: β, per nat; it scales the targets, not the logistic term.

    Returns:
        (B,) losses; ln 2 + 1/(4β²) where policy and reference agree.
    """
    target = 1 / (2 * beta)
    calibration = (chosen_log_ratios - target) ** 2 + (rejected_log_ratios + target) ** 2
    return -F.logsigmoid(chosen_log_ratios - rejected_log_ratios) + 0.5 * calibration


class CalDPO(Objective):
    """Calibrated DPO: rewards shall also have the scale of true ones, so that the chosen one stays positive.

    Args:
        beta: per nat; positive. The authors' script uses 0.001, a target of 500 nats.
    """

    def __init__(self, beta: float = 0.001) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        self.beta = beta

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = cal_dpo_losses(chosen, rejected, self.beta)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
