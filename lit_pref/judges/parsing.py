"""From what a judge wrote to a label. Knows nothing of how it was asked."""

import re
from collections.abc import Mapping

from ..errors import ConfigError
from .base import LABELS, Label

#: Raise this when a text is read in another way. Part of every fingerprint; outputs on disk are then read again.
VERSION = 2
#: Why a model that computes NaN has no verdict: the largest of them is whichever comes first, and means nothing.
NOT_FINITE = "the judge's probabilities are not finite numbers"


def check_labels(judge: str, labels: Mapping[str, str]) -> None:
    """ConfigError unless there are two strings or more and each stands for a label."""
    wrong = sorted({label for label in labels.values() if label not in LABELS})
    if wrong or len(labels) < 2 or any(not text.strip() or text != text.strip() for text in labels):
        raise ConfigError(
            f"{judge}: labels is {dict(labels)!r}\n"
            f"  Fix: map at least two answers, without spaces around them, to some of {', '.join(LABELS)}."
        )


def parse_label(text: str, labels: Mapping[str, Label]) -> tuple[Label, str]:
    """The label that a text begins with, and how it was found; nothing is ever guessed from later words."""
    if not text.strip():
        return "unparseable", "the judge's answer is empty"
    longest_first = sorted(labels, key=len, reverse=True)
    answers = "|".join(map(re.escape, longest_first))
    match = re.match(rf"\s*({answers})(?!\w|[.,]\d)", text)  # neither "10" nor "1.5" is an answer of 1
    if match is None:
        return "unparseable", f"the judge's answer does not begin with one of {', '.join(labels)}"
    return labels[match[1]], f"the judge answered {match[1]}"
