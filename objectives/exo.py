"""EXO: Ji, Lu, Niu, Ke, Wang, Zhu, Tang, Huang, ICML 2024, https://arxiv.org/abs/2402.00856"""

import math

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def exo_losses(log_ratio_margins: Tensor, beta: float, label_smoothing: float) -> Tensor:
    """KL(p ‖ q) of p = (σ(βΔ), σ(-βΔ)), what the policy prefers, from q = (1-ε, ε), what the label says

    Args:
        log_ratio_margins: (B,) Δ, nats.
        beta: β, per nat.
        label_smoothing: ε, mass of the label on the rejected response; it keeps the reverse KL finite.

    Returns:
        (B,) losses, equation 16 of the paper; 0 where σ(βΔ) = 1-ε.
    """
    logits = beta * log_ratio_margins
    chosen = torch.sigmoid(logits) * (F.logsigmoid(logits) - math.log1p(-label_smoothing))
    rejected = torch.sigmoid(-logits) * (F.logsigmoid(-logits) - math.log(label_smoothing))
    return chosen + rejected


class EXO(Objective):
    """Efficient exact optimization on pairs: the reverse KL where DPO minimizes the forward one.

    Args:
        beta: per nat; positive. The paper uses 0.1.
        label_smoothing: mass of the label on the rejected response, 0 < ε < 0.5; not a share of flipped labels.
    """

    def __init__(self, beta: float = 0.1, label_smoothing: float = 1e-3) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 < label_smoothing < 0.5, "label_smoothing", label_smoothing, "above 0 and below 0.5")
        self.beta = beta
        self.label_smoothing = label_smoothing

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = exo_losses(chosen - rejected, self.beta, self.label_smoothing)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
