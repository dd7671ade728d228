"""Objectives that change what another objective sees or says. Knows no particular objective."""

from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, SequenceScores, TokenScores


class Modifier(Objective):
    """Base of objectives around one other objective; takes over what that one needs.

    Args:
        objective: what is modified.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.needs_reference = objective.needs_reference
        self.needs_rewards = objective.needs_rewards
        self.needs_tokens = type(self).needs_tokens or objective.needs_tokens
        self.needs_gradient_norms = type(self).needs_gradient_norms or objective.needs_gradient_norms
        self.needs_mismatched = objective.needs_mismatched
        self.couples_pairs = type(self).couples_pairs or objective.couples_pairs

    def unusable_rewards(self, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, str]:
        return self.objective.unusable_rewards(chosen, rejected)

    def inner(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        """The modified objective's own answer."""
        self.objective.progress = self.progress
        return self.objective(policy, reference)


def tokens_of(scores: SequenceScores) -> TokenScores:
    """The scores of single tokens, or a sentence where there are none."""
    if scores.tokens is None:
        raise ValueError("this objective reads single tokens, and these scores hold sums only (needs_tokens)")
    return scores.tokens
