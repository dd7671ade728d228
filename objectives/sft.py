"""SFT: maximum likelihood of the chosen response (Ouyang et al., NeurIPS 2022, https://arxiv.org/abs/2203.02155)."""

from typing import Literal

from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, SequenceScores, require


def sft_losses(chosen: SequenceScores, reduction: str) -> Tensor:
    """-log π(y⁺|x), summed over the response's tokens or divided by their number; (B,) nats."""
    return -(chosen.logps if reduction == "sum" else chosen.mean_logps)


class SFT(Objective):
    """Supervised fine-tuning on the chosen responses, alone or as a term of ``WeightedSum``.

    A weight does not carry over between reductions: the sum is about as many times stronger as responses have
    tokens. ``sum`` is the term of Razin et al. (2025, https://arxiv.org/abs/2410.08847, section 6); ``mean``
    is per sequence, as in Iterative RPO (Pang et al. 2024, https://arxiv.org/abs/2404.19733). The rewards
    reported are the log-probabilities themselves, under the same reduction.

    Args:
        reduction: ``sum`` over response tokens, or ``mean`` per response token of each sequence.
    """

    needs_reference = False

    def __init__(self, reduction: Literal["sum", "mean"] = "mean") -> None:
        super().__init__()
        require(reduction in ("sum", "mean"), "reduction", reduction, "'sum' or 'mean'")
        self.reduction = reduction

    def forward(self, policy: PairScores, reference: PairScores | None = None) -> ObjectiveOutput:
        chosen_losses = sft_losses(policy.chosen, self.reduction)  # (B,)
        rejected_losses = sft_losses(policy.rejected, self.reduction)  # (B,), reported, never trained on
        return ObjectiveOutput(chosen_losses, -chosen_losses.detach(), -rejected_losses.detach())
