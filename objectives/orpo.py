"""ORPO: Hong, Lee, Thorne, EMNLP 2024, https://arxiv.org/abs/2403.07691"""

import math

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, require
from .sft import Reduction, require_reduction, sft_losses


def log_odds(mean_logps: Tensor) -> Tensor:
    """log(p / (1-p)) of p = exp(mean_logps), exact to rounding for any p.

    log(1-p) is computed from whichever of p and 1-p is small; the logarithm of a p that rounds to 1 is taken one unit
    of precision below 0, so that odds are never infinite.
    """
    below_one = mean_logps.clamp(max=-torch.finfo(mean_logps.dtype).eps)
    near_one = below_one > -math.log(2)
    of_large = torch.log(-torch.expm1(torch.where(near_one, below_one, -1.0)))
    of_small = torch.log1p(-torch.exp(torch.where(near_one, -1.0, below_one)))
    return mean_logps - torch.where(near_one, of_large, of_small)


def orpo_losses(chosen_mean_logps: Tensor, rejected_mean_logps: Tensor) -> Tensor:
    """-log σ(log odds(y⁺) - log odds(y⁻)) of log-probabilities per token: equation 7 of the paper; (B,)."""
    return -F.logsigmoid(log_odds(chosen_mean_logps) - log_odds(rejected_mean_logps))


class ORPO(Objective):
    """Odds ratio preference optimization: likelihood of the chosen response + β times an odds-ratio term.

    Implementations disagree on the likelihood: ``mean`` per response token of each sequence is LLaMA-Factory;
    ``tokens`` weighs all tokens of a batch alike, as TRL and Liger do. These two also count the prompt's tokens, which
    cannot be had here: scores are of responses alone. Rewards are β times the log-probability per token.

    Args:
        beta: the paper's λ, weight of the odds-ratio term; positive. The paper uses 0.1.
        reduction: of the likelihood: ``sum``, ``mean`` or ``tokens``.
    """

    needs_reference = False

    def __init__(self, beta: float = 0.1, reduction: Reduction = "mean") -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require_reduction(reduction)
        self.beta = beta
        self.reduction = reduction
        self.couples_pairs = reduction == "tokens"

    def forward(self, policy: PairScores, reference: PairScores | None = None) -> ObjectiveOutput:
        chosen, rejected = policy.chosen.mean_logps, policy.rejected.mean_logps  # (B,), (B,)
        losses = sft_losses(policy.chosen, self.reduction) + self.beta * orpo_losses(chosen, rejected)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
