"""IPO: Azar, Rowland, Piot, Guo, Calandriello, Valko, Munos, AISTATS 2024, https://arxiv.org/abs/2310.12036"""

from typing import Literal

from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def ipo_losses(log_ratio_margins: Tensor, beta: float) -> Tensor:
    """(Δ - 1/(2β))²

    Args:
        log_ratio_margins: (B,) Δ, nats (or nats per token); its regression target is 1/(2β).
        beta: the paper's τ, per nat.

    Returns:
        (B,) losses, equation 17 of the paper; 1/(4β²) where policy and reference agree.
    """
    return (log_ratio_margins - 1 / (2 * beta)) ** 2


class IPO(Objective):
    """Identity preference optimization: regress the margin of log-ratios on 1/(2β).

    Implementations disagree on Δ. ``sum`` is the paper's equation and what Mitchell's DPO code, OpenRLHF and
    Razin et al. compute; ``mean`` divides each log-ratio by its own response's length, as TRL, LLaMA-Factory
    and HALOs do after correspondence with the authors. A β for one is meaningless for the other.

    Args:
        beta: the paper's τ, per nat; positive. Razin et al. use 0.01 with ``sum``.
        reduction: ``sum`` over response tokens, or ``mean`` per response token.
    """

    def __init__(self, beta: float = 0.1, reduction: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(reduction in ("sum", "mean"), "reduction", reduction, "'sum' or 'mean'")
        self.beta = beta
        self.reduction = reduction

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        if self.reduction == "mean":
            chosen, rejected = chosen / policy.chosen.lengths, rejected / policy.rejected.lengths
        losses = ipo_losses(chosen - rejected, self.beta)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
