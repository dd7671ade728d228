"""R-DPO: Park, Rafailov, Ermon, Finn, Findings of ACL 2024, https://arxiv.org/abs/2403.19159"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def rdpo_losses(log_ratio_margins: Tensor, length_margins: Tensor, beta: float, alpha: float) -> Tensor:
    """-log σ(βΔ + α(|y⁺| - |y⁻|))

    Args:
        log_ratio_margins: (B,) Δ, nats.
        length_margins: (B,) response tokens of the chosen minus those of the rejected response.
        beta: β, per nat.
        alpha: α, per token: a longer chosen response counts as margin already met.

    Returns:
        (B,) losses; DPO's where both responses are equally long.
    """
    return -F.logsigmoid(beta * log_ratio_margins + alpha * length_margins)


class RDPO(Objective):
    """Length-regularised DPO: what length alone explains is not learned.

    Not robust DPO (``RobustDPO``), which some code calls rDPO.

    Args:
        beta: per nat; positive.
        alpha: per response token, at least 0. In use are 0.005 and 0.01 for dialogue (HH) and 0.2 for summaries
            (TL;DR).
    """

    def __init__(self, beta: float = 0.1, alpha: float = 0.01) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 <= alpha < float("inf"), "alpha", alpha, "at least 0")
        self.beta = beta
        self.alpha = alpha

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        longer = policy.chosen.lengths - policy.rejected.lengths  # (B,)
        losses = rdpo_losses(chosen - rejected, longer, self.beta, self.alpha)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
