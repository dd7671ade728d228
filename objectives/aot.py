"""AOT: alignment by optimal transport.

Melnyk, Mroueh, Belgodere, Rigotti, Nitsure, Yurochkin, Greenewald, Navratil, Ross, NeurIPS 2024,
https://arxiv.org/abs/2406.05882
"""

from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require
from .dpo import dpo_losses


def quantile_margins(upper: Tensor, lower: Tensor) -> Tensor:
    """What each of ``upper`` exceeds the element of the same rank in ``lower`` by; (B,) in the order of ``upper``."""
    ranks = upper.argsort().argsort()  # (B,), rank of each element
    return upper - lower.sort().values[ranks]


class AOT(Objective):
    """Alignment by optimal transport: the chosen distribution shall dominate, quantile by quantile.

    Elements of equal rank are compared by the logistic loss (section 3 of the paper), within the batch of a process;
    a batch of one pair is DPO. Losses come back in the order of the pairs (TRL returns them sorted; only the mean is
    the same).

    Args:
        beta: per nat; positive.
        label_smoothing: 0 <= ε < 0.5, as in conservative DPO.
        paired: True ranks the policy's margins against the reference's; False ranks log-ratios of chosen responses
            against those of rejected ones, as for data that are not pairs ("aot_unpaired").
    """

    couples_pairs = True

    def __init__(self, beta: float = 0.01, label_smoothing: float = 0.0, paired: bool = True) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(0 <= label_smoothing < 0.5, "label_smoothing", label_smoothing, "at least 0 and below 0.5")
        self.beta = beta
        self.label_smoothing = label_smoothing
        self.paired = paired

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        assert reference is not None  # log_ratios refuses None
        if self.paired:
            margins = quantile_margins(
                policy.chosen.logps - policy.rejected.logps, reference.chosen.logps - reference.rejected.logps
            )
        else:
            margins = quantile_margins(chosen, rejected)
        losses = dpo_losses(margins, self.beta, self.label_smoothing)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
