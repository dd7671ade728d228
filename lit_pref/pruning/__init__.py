"""Which pairs to train on: rules that read scores, and the controls that any such rule has to beat."""

from .controls import ClassMatched, HighestScores, LengthMatched, RandomSubset
from .rules import (
    AtMost,
    Candidates,
    Choice,
    FractionSchedule,
    LowestCount,
    LowestFraction,
    QuantileWindow,
    Rule,
    Stratified,
)

__all__ = [
    "AtMost",
    "Candidates",
    "Choice",
    "ClassMatched",
    "FractionSchedule",
    "HighestScores",
    "LengthMatched",
    "LowestCount",
    "LowestFraction",
    "QuantileWindow",
    "RandomSubset",
    "Rule",
    "Stratified",
]
