"""SPPO: Wu, Sun, Yuan, Ji, Yang, Gu, 2024, https://arxiv.org/abs/2405.00675"""

from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def sppo_losses(chosen_log_ratios: Tensor, rejected_log_ratios: Tensor, beta: float) -> Tensor:
    """(a - 1/(2β))² + (b + 1/(2β))²

    Args:
        chosen_log_ratios: (B,) a, nats; regressed on 1/(2β).
        rejected_log_ratios: (B,) b, nats; regressed on -1/(2β).
        beta: the paper's 1/η, per nat.

    Returns:
        (B,) losses, equation 4.7 of the paper with win probabilities 1 and 0; 1/(2β²) where policy and reference
        agree.
    """
    target = 1 / (2 * beta)
    return (chosen_log_ratios - target) ** 2 + (rejected_log_ratios + target) ** 2


class SPPO(Objective):
    """Self-play preference optimization with hard labels ("sppo_hard"): a winner wins with probability 1.

    Args:
        beta: the paper's 1/η, per nat; positive. The paper uses 0.001.
    """

    def __init__(self, beta: float = 0.001) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        self.beta = beta

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = sppo_losses(chosen, rejected, self.beta)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
