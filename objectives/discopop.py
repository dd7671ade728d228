"""DiscoPOP: Lu, Holt, Fanconi, Chan, Foerster, van der Schaar, Lange, NeurIPS 2024, https://arxiv.org/abs/2406.08414"""

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def discopop_losses(log_ratio_margins: Tensor, beta: float, tau: float) -> Tensor:
    """-(1-m)·log σ(z) + m·exp(-z), z = βΔ, m = σ(z/τ)

    Args:
        log_ratio_margins: (B,) Δ, nats.
        beta: β, per nat.
        tau: τ, how sharply the logistic loss (z < 0) gives way to the exponential (z > 0).

    Returns:
        (B,) losses, equation 5 of the paper. m·exp(-z) is one exponential, which cannot overflow where τ <= 1.
    """
    logits = beta * log_ratio_margins
    logistic = torch.sigmoid(-logits / tau) * -F.logsigmoid(logits)
    return logistic + torch.exp(F.logsigmoid(logits / tau) - logits)


class DiscoPOP(Objective):
    """The loss that a language model discovered: logistic for pairs ranked wrongly, exponential for the others.

    It is not convex.

    Args:
        beta: per nat; positive. The paper uses 0.05.
        tau: temperature of the blend, 0 < τ <= 1; the paper uses 0.05.
    """

    def __init__(self, beta: float = 0.05, tau: float = 0.05) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 < tau <= 1, "tau", tau, "above 0 and at most 1")
        self.beta = beta
        self.tau = tau

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = discopop_losses(chosen - rejected, self.beta, self.tau)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
