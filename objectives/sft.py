"""SFT: maximum likelihood of the chosen response (Ouyang et al., NeurIPS 2022, https://arxiv.org/abs/2203.02155)."""

from typing import Literal

from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, SequenceScores, require

Reduction = Literal["sum", "mean", "tokens"]


def sft_losses(chosen: SequenceScores, reduction: Reduction) -> Tensor:
    """-log π(y⁺|x) of each response, (B,) nats, under one of three reductions.

    ``sum`` over the response's tokens; ``mean`` divides by their number; ``tokens`` is the response's share of the
    mean over all tokens of the B responses, so that the mean of the losses is that mean.
    """
    if reduction == "sum":
        return -chosen.logps
    if reduction == "mean":
        return -chosen.mean_logps
    return -chosen.logps * len(chosen.logps) / chosen.lengths.sum()


def require_reduction(reduction: str) -> None:
    """Refuse a reduction that does not exist."""
    require(reduction in ("sum", "mean", "tokens"), "reduction", reduction, "'sum', 'mean' or 'tokens'")


class SFT(Objective):
    """Supervised fine-tuning on the chosen responses, alone or as a term of ``WeightedSum``.

    A weight does not carry over between reductions: the sum is about as many times stronger as responses have
    tokens. ``sum`` is the term of Razin et al. (2025, https://arxiv.org/abs/2410.08847, section 6); ``mean``
    is per sequence, as in Iterative RPO (Pang et al. 2024, https://arxiv.org/abs/2404.19733), OpenRLHF and
    LLaMA-Factory; ``tokens`` is TRL's, where a long response weighs more. The rewards reported are the
    log-probabilities themselves, under the same reduction.

    Args:
        reduction: ``sum`` over response tokens, ``mean`` per response token of each sequence, or ``tokens``, the mean
            over all chosen tokens of a process's batch.
    """

    needs_reference = False

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        require_reduction(reduction)
        self.reduction = reduction
        self.couples_pairs = reduction == "tokens"

    def forward(self, policy: PairScores, reference: PairScores | None = None) -> ObjectiveOutput:
        chosen_losses = sft_losses(policy.chosen, self.reduction)  # (B,)
        rejected_losses = sft_losses(policy.rejected, self.reduction)  # (B,), reported, never trained on
        return ObjectiveOutput(chosen_losses, -chosen_losses.detach(), -rejected_losses.detach())
