"""Preference pairs out of a model's own responses: refusals over compliances, ties decided by a rule or a model."""

from .labelling import DROPPED, Candidate, Labelled, label, needs_tie_break
from .reward_model import RewardModel
from .tie_breaks import Contestant, InTurn, Longer, RandomTie, Shorter, TieBreak, WorldStyle

__all__ = [
    "DROPPED",
    "Candidate",
    "Contestant",
    "InTurn",
    "Labelled",
    "Longer",
    "RandomTie",
    "RewardModel",
    "Shorter",
    "TieBreak",
    "WorldStyle",
    "label",
    "needs_tie_break",
]
