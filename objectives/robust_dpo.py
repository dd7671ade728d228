"""Robust DPO: Chowdhury, Kini, Natarajan, ICML 2024, https://arxiv.org/abs/2403.00409"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def robust_dpo_losses(log_ratio_margins: Tensor, beta: float, label_smoothing: float) -> Tensor:
    """[-(1-ε)·log σ(βΔ) + ε·log σ(-βΔ)] / (1-2ε)

    Args:
        log_ratio_margins: (B,) Δ, nats.
        beta: β, per nat.
        label_smoothing: ε, the probability that a label is flipped.

    Returns:
        (B,) losses, whose mean over flips is the loss of clean labels (section 3.1 of the paper); negative where Δ is
        large and ε > 0.
    """
    logits = beta * log_ratio_margins
    clean, flipped = -F.logsigmoid(logits), -F.logsigmoid(-logits)
    return ((1 - label_smoothing) * clean - label_smoothing * flipped) / (1 - 2 * label_smoothing)


class RobustDPO(Objective):
    """DPO whose expectation over flipped labels is the DPO loss of the true ones.

    It shares the name ``label_smoothing`` with conservative DPO, but subtracts the flipped term where that adds it.

    Args:
        beta: strength of the pull to the reference, per nat; positive. The paper uses 0.01.
        label_smoothing: assumed share of flipped labels, 0 <= ε < 0.5; the paper uses 0.1.
    """

    def __init__(self, beta: float = 0.01, label_smoothing: float = 0.1) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 <= label_smoothing < 0.5, "label_smoothing", label_smoothing, "at least 0 and below 0.5")
        self.beta = beta
        self.label_smoothing = label_smoothing

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = robust_dpo_losses(chosen - rejected, self.beta, self.label_smoothing)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
