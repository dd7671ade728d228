"""Similarity of the two responses of a pair: measures, and their values under a model.

Names are imported when they are asked for, so that who reads scores from a file does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    """What is not imported yet; AttributeError where there is no such name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = ".measuring" if name in ("MEASURES", "USUAL", "Measuring") else ".measures"
    return getattr(import_module(home, __name__), name)
