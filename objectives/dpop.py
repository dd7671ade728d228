"""DPOP (DPO-Positive, Smaug): Pal, Karkhanis, Dooley, Roberts, Naidu, White, 2024, https://arxiv.org/abs/2402.13228"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require

#: Falls of less are rounding, nats. Training begins where nothing has fallen, and a penalty of 50 would multiply what
#: the last digits of two sums say there.
ROUNDING = 1e-4


def dpop_losses(chosen_log_ratios: Tensor, rejected_log_ratios: Tensor, beta: float, penalty: float) -> Tensor:
    """-log σ(β·(a - b - λ·max(0, -a)))

    Args:
        chosen_log_ratios: (B,) a, nats; negative where the chosen response has become less likely.
        rejected_log_ratios: (B,) b, nats.
        beta: β, per nat.
        penalty: λ.

    Returns:
        (B,) losses; DPO's wherever a >= 0, but for rounding (``ROUNDING``).
    """
    fall = F.threshold(-chosen_log_ratios, ROUNDING, 0.0)  # itself above the first number, else the second
    return -F.logsigmoid(beta * (chosen_log_ratios - rejected_log_ratios - penalty * fall))


class DPOP(Objective):
    """DPO with a penalty inside the sigmoid on chosen responses that fall below the reference.

    Args:
        beta: per nat; positive.
        penalty: λ, at least 0; 0 is DPO. The paper uses 5, 50 and 500.
    """

    def __init__(self, beta: float = 0.1, penalty: float = 50.0) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 <= penalty < float("inf"), "penalty", penalty, "at least 0")
        self.beta = beta
        self.penalty = penalty

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = dpop_losses(chosen, rejected, self.beta, self.penalty)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
