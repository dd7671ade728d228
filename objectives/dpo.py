"""DPO: Rafailov, Sharma, Mitchell, Ermon, Manning, Finn, NeurIPS 2023, https://arxiv.org/abs/2305.18290"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def dpo_losses(log_ratio_margins: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-(1-ε)·log σ(βΔ) - ε·log σ(-βΔ)

    Args:
        log_ratio_margins: (B,) Δ = log-ratio of the chosen minus log-ratio of the rejected response, nats.
        beta: β, per nat.
        label_smoothing: ε, the probability that a label is flipped.

    Returns:
        (B,) losses; ln 2 where policy and reference agree. Equation 7 of the paper; with ε > 0 equation 3 of
        Mitchell, "A note on DPO with noisy preferences" (2023), https://ericmitchell.ai/cdpo.pdf
    """
    logits = beta * log_ratio_margins
    return -(1 - label_smoothing) * F.logsigmoid(logits) - label_smoothing * F.logsigmoid(-logits)


class DPO(Objective):
    """Direct preference optimization, and with ``label_smoothing`` its conservative variant (cDPO).

    Rewards are β times the log-ratio, as in the paper's section 5.

    Args:
        beta: strength of the pull to the reference, per nat; positive. The paper uses 0.1 to 0.5.
        label_smoothing: assumed share of flipped labels, 0 <= ε < 0.5. TRL 1.x accepts and ignores it for its
            "sigmoid" loss; here it acts.
    """

    def __init__(self, beta: float = 0.1, label_smoothing: float = 0.0) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 <= label_smoothing < 0.5, "label_smoothing", label_smoothing, "at least 0 and below 0.5")
        self.beta = beta
        self.label_smoothing = label_smoothing

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = dpo_losses(chosen - rejected, self.beta, self.label_smoothing)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
