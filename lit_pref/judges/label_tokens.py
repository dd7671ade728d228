"""Answers that are single tokens, and what their log-probabilities say. Knows nothing of models."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from .base import Item, Label
from .parsing import NOT_FINITE
from .questions import Questions

#: No log-probability is above 0 but by rounding; from far above it a probability overflows.
MOST = 1.0


class Read(NamedTuple):
    """A label, its probability among the answers, and why."""

    label: Label
    score: float | None
    reason: str


def label_tokens(questions: Questions, answers: list[str]) -> dict[str, list[int]] | None:
    """For each answer the tokens that would be it, with or without a space before; None unless all have one.

    Looked up at the very place of the answer, because a tokenizer may split the same digit otherwise elsewhere.
    """
    asked = questions.template.render(Item("request", "response"))
    before = questions.ids(asked)
    found: dict[str, list[int]] = {}
    for answer in answers:
        tokens = set()
        for text in (answer, " " + answer):
            ids = questions.ids(asked, text)
            if len(ids) == len(before) + 1 and ids[:-1] == before:
                tokens.add(ids[-1])
        found[answer] = sorted(tokens)
    every = [token for tokens in found.values() for token in tokens]
    unknown = questions.tokenizer.unk_token_id
    if len(set(every)) < len(every) or unknown in every or not all(found.values()):
        return None
    return found


def read_log_probs(raw: str, labels: Mapping[str, Label], least_mass: float) -> Read | None:
    """The verdict of `answer=log-probability ...`; None where the text is not of that form.

    What has the form but not the numbers is no answer either: it begins with the first label, whatever it says.
    """
    answer = f"(?:{'|'.join(map(re.escape, labels))})"
    if re.fullmatch(rf"\s*{answer}=\S+(?:\s+{answer}=\S+)+\s*", raw) is None:
        return None
    numbers = r"=(-?\d+\.\d{6}|-?inf|nan)"
    match = re.fullmatch(" ".join(re.escape(answer) + numbers for answer in labels), raw)
    if match is None:
        return Read("unparseable", None, "the judge's answer is neither a label nor log-probabilities of the labels")
    logps = [float(logp) for logp in match.groups()]
    if any(math.isnan(logp) or logp > MOST for logp in logps):
        return Read("error", None, NOT_FINITE)
    probs = [math.exp(logp) for logp in logps]
    mass = sum(probs)
    if mass <= 0 or mass < least_mass:
        return Read("unparseable", None, f"the answers together have a probability of {mass:.4f} only")
    by_label: dict[Label, float] = {}
    for label, p in zip(labels.values(), probs, strict=True):
        by_label[label] = by_label.get(label, 0.0) + p / mass
    best = max(by_label, key=lambda label: by_label[label])
    return Read(best, by_label[best], f"log-probabilities of the answers, which together have {min(mass, 1.0):.4f}")
