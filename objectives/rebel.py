"""REBEL: regression to relative rewards.

Gao, Chang, Zhan, Oertell, Swamy, Brantley, Joachims, Bagnell, Lee, Sun, NeurIPS 2024,
https://arxiv.org/abs/2404.16767
"""

from torch import Tensor

from .annotated import annotated_rewards
from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require


def rebel_losses(log_ratio_margins: Tensor, reward_margins: Tensor, eta: float) -> Tensor:
    """(Δ/η - (r⁺ - r⁻))²

    Args:
        log_ratio_margins: (B,) Δ, nats.
        reward_margins: (B,) r⁺ - r⁻, annotated, of either sign.
        eta: η, nats per unit of reward.

    Returns:
        (B,) losses, the least-squares problem of the paper's algorithm 1; (r⁺ - r⁻)² where policy and reference agree.
    """
    return (log_ratio_margins / eta - reward_margins) ** 2


class REBEL(Objective):
    """Regress the difference of rewards on the margin of log-ratios.

    The paper's pairs are sampled from the reference, which is the policy of the iteration before; on given pairs this
    is its offline form. The authors' code minimizes η² times this loss, which is another learning rate. Rewards
    reported are the log-ratios divided by η.

    Args:
        eta: η, nats per unit of reward; positive.
    """

    needs_rewards = True

    def __init__(self, eta: float = 1.0) -> None:
        super().__init__()
        require(0 < eta < float("inf"), "eta", eta, "a positive number")
        self.eta = eta

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        better, worse = annotated_rewards(policy)  # (B,), (B,)
        losses = rebel_losses(chosen - rejected, better - worse, self.eta)
        return ObjectiveOutput(losses, chosen.detach() / self.eta, rejected.detach() / self.eta)
