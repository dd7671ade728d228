"""The rewards that the data annotate, for the objectives that compare them."""

from torch import Tensor

from .base import PairScores


def annotated_rewards(policy: PairScores) -> tuple[Tensor, Tensor]:
    """Rewards of both sides, (B,) each; raises ValueError where the data have none."""
    if policy.chosen.rewards is None or policy.rejected.rewards is None:
        raise ValueError(
            "this objective compares annotated rewards, but the data have none: "
            "give every row a chosen_reward and a rejected_reward"
        )
    return policy.chosen.rewards, policy.rejected.rewards
