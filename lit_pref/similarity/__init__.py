"""Similarity of the two responses of a pair: measures, and their values under a model."""

from .measures import ches, edit_similarity, last_hidden, ln_ches, response_cosine
from .measuring import MEASURES, USUAL, Measuring

__all__ = [
    "MEASURES",
    "USUAL",
    "Measuring",
    "ches",
    "edit_similarity",
    "last_hidden",
    "ln_ches",
    "response_cosine",
]
