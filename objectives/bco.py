"""BCO: Jung, Han, Nam, On, ACL 2025, https://arxiv.org/abs/2404.04656"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require
from .processes import sum_over_processes


def bco_losses(chosen_rewards: Tensor, rejected_rewards: Tensor, shift: Tensor) -> Tensor:
    """-log σ(r⁺ - δ) - log σ(-(r⁻ - δ))

    Args:
        chosen_rewards: (B,) r⁺ = β times the log-ratio of the chosen response.
        rejected_rewards: (B,) r⁻ likewise.
        shift: () δ, what a reward is compared with.

    Returns:
        (B,) losses, section 4 of the paper on pairs; 2·ln 2 where policy and reference agree and δ is 0.
    """
    return -F.logsigmoid(chosen_rewards - shift) - F.logsigmoid(shift - rejected_rewards)


class BCO(Objective):
    """Binary classifier optimization: chosen responses are ones, rejected responses are zeros.

    Implementations disagree on δ. ``running`` is the mean of all rewards seen so far, this batch included, as in
    LLaMA-Factory, ms-swift and TRL up to 0.28; ``none`` is 0, as in TRL 1.x and Liger. The running mean weighs every
    reward alike, is taken over all processes, moves in training only, and is kept in checkpoints.

    Args:
        beta: per nat; positive. The paper uses 0.01.
        shift: ``running`` or ``none``.
    """

    reward_shift: Tensor
    rewards_seen: Tensor

    def __init__(self, beta: float = 0.01, shift: Literal["running", "none"] = "running") -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(shift in ("running", "none"), "shift", shift, "'running' or 'none'")
        self.beta = beta
        self.shift = shift
        self.couples_pairs = shift == "running"
        self.register_buffer("reward_shift", torch.zeros(()))
        self.register_buffer("rewards_seen", torch.zeros((), dtype=torch.int64))

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = (self.beta * ratios for ratios in log_ratios(policy, reference))  # (B,), (B,)
        if self.shift == "running" and self.training:
            self._update(torch.cat([chosen, rejected]).detach().float())
        losses = bco_losses(chosen, rejected, self.reward_shift)
        return ObjectiveOutput(losses, chosen.detach(), rejected.detach())

    def _update(self, rewards: Tensor) -> None:
        total, count = sum_over_processes(torch.stack([rewards.sum(), rewards.new_tensor(len(rewards))]))
        self.rewards_seen += count.to(torch.int64)
        self.reward_shift += (total - count * self.reward_shift) / self.rewards_seen.clamp(min=1)
