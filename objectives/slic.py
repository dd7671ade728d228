"""SLiC-HF: Zhao, Joshi, Liu, Khalman, Saleh, Liu, 2023, https://arxiv.org/abs/2305.10425"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, require
from .sft import Reduction, require_reduction, sft_losses


def slic_losses(logp_margins: Tensor, delta: float) -> Tensor:
    """max(0, δ - m), m = log π(y⁺|x) - log π(y⁻|x): the calibration term of the paper's section 2; (B,)."""
    return F.relu(delta - logp_margins)


class SLiC(Objective):
    """Sequence likelihood calibration: a margin of δ nats without a reference, and a likelihood term.

    What TRL calls "hinge" after this paper has a reference and no likelihood term: that is ``Hinge``. The paper's
    likelihood is of the targets of fine-tuning; here, as in HALOs, it is of the chosen response. Rewards are the
    log-probabilities.

    Args:
        delta: δ, the margin to reach, nats; positive. HALOs uses 1.
        nll_weight: λ, weight of the negative log-likelihood, at least 0. HALOs uses 0.1.
        reduction: of the likelihood: ``sum`` as in the paper and HALOs, ``mean`` or ``tokens``.
    """

    needs_reference = False

    def __init__(self, delta: float = 1.0, nll_weight: float = 0.1, reduction: Reduction = "sum") -> None:
        super().__init__()
        require(0 < delta < float("inf"), "delta", delta, "a positive number")
        require(0 <= nll_weight < float("inf"), "nll_weight", nll_weight, "at least 0")
        require_reduction(reduction)
        self.delta = delta
        self.nll_weight = nll_weight
        self.reduction = reduction
        self.couples_pairs = reduction == "tokens" and nll_weight > 0

    def forward(self, policy: PairScores, reference: PairScores | None = None) -> ObjectiveOutput:
        chosen, rejected = policy.chosen.logps, policy.rejected.logps  # (B,), (B,)
        likelihood = sft_losses(policy.chosen, self.reduction)
        losses = slic_losses(chosen - rejected, self.delta) + self.nll_weight * likelihood
        return ObjectiveOutput(losses, chosen.detach(), rejected.detach())
