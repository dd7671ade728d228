"""SimPO: Meng, Xia, Chen, NeurIPS 2024, https://arxiv.org/abs/2405.14734"""

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, require


def simpo_losses(mean_logp_margins: Tensor, beta: float, gamma: float) -> Tensor:
    """-log σ(β·m - γ)

    Args:
        mean_logp_margins: (B,) m, log-probability per token of the chosen minus that of the rejected, nats.
        beta: β, per nat.
        gamma: γ, the margin to reach, a pure number on the scale of β·m.

    Returns:
        (B,) losses, equation 6 of the paper.
    """
    return -F.logsigmoid(beta * mean_logp_margins - gamma)


class SimPO(Objective):
    """Simple preference optimization: length-normalised, reference-free, with a target margin.

    The margin is written as γ = ``gamma_beta_ratio`` · β in the authors' code, HALOs and open-instruct, and as
    an absolute γ in the paper's equation, TRL, Liger and LLaMA-Factory. Give one of the two, never both.

    Args:
        beta: scale of the per-token log-probabilities; positive. The paper uses 2.0 to 10.
        gamma_beta_ratio: γ/β, at least 0; 0.25 where neither this nor ``gamma`` is given (the authors' default).
        gamma: γ itself, at least 0.
    """

    needs_reference = False

    def __init__(self, beta: float = 2.0, gamma_beta_ratio: float | None = None, gamma: float | None = None) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        if gamma is not None and gamma_beta_ratio is not None:
            raise ValueError("gamma and gamma_beta_ratio are both given, but γ = gamma_beta_ratio·beta: keep one")
        if gamma is None:
            gamma = beta * (0.25 if gamma_beta_ratio is None else gamma_beta_ratio)
        require(0 <= gamma < float("inf"), "gamma (or gamma_beta_ratio)", gamma, "at least 0")
        self.beta = beta
        self.gamma = gamma

    def forward(self, policy: PairScores, reference: PairScores | None = None) -> ObjectiveOutput:
        chosen, rejected = policy.chosen.mean_logps, policy.rejected.mean_logps  # (B,), (B,)
        losses = simpo_losses(chosen - rejected, self.beta, self.gamma)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
