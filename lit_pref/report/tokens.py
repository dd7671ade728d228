"""Tokens that gained or lost probability, over the runs of an arm. Knows mass.json; draws nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .arms import Arm

#: Section of mass.json -> whose mean distribution it is.
SECTIONS = {
    "first": "the first token of the response to validation prompts",
    "overall": "all tokens of the chosen responses of validation pairs",
}
MASSES = ("chosen", "benign", "catastrophic", "rejected", "other")


class Token(NamedTuple):
    """A token, as means over the runs that list it."""

    text: str
    gain: float
    before: float
    after: float
    rank: float  # predicted, 1 the highest
    runs: int


class Tokens(NamedTuple):
    """One section of an arm.

    Attributes:
        gained: most first.
        spearman: of the predicted with the realised change over the vocabulary, one a run.
        runs: how many have the section.
    """

    gained: list[Token]
    spearman: list[float]
    runs: int


def tokens_of(masses: Sequence[Mapping[str, Any]], section: str, most: int = 6) -> Tokens | None:
    """The tokens whose probability rose most on average over the runs that list them; None where none is listed."""
    listed: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    spearman, runs = [], 0
    for mass in masses:
        own = mass.get(section)
        if not isinstance(own, Mapping) or not isinstance(own.get("tokens"), list):
            continue
        runs += 1
        spearman.append(number(own.get("spearman")))
        for token in own["tokens"]:
            if isinstance(token, Mapping):
                listed.setdefault((str(token.get("token")), str(token.get("text", ""))), []).append(token)
    found = [_token(text, lines) for (_, text), lines in listed.items()]
    gained = sorted((t for t in found if t.gain > 0), key=lambda t: (-t.gain, t.text))[:most]
    return Tokens(gained, spearman, runs) if gained else None


def masses_of(arms: Sequence[Arm]) -> dict[str, list[dict[str, Any]]]:
    """Arm -> mass.json of its runs that have one."""
    found = {arm.name: [mass for run in arm.runs.values() if (mass := run.mass())] for arm in arms}
    return {arm: own for arm, own in found.items() if own}


def group_masses(masses: Sequence[Mapping[str, Any]]) -> tuple[dict[str, tuple[float, float]], int] | None:
    """Kind of token -> probability before and after, means over the runs that have them, and how many these are."""
    runs = [own for mass in masses if isinstance(own := mass.get("mass"), Mapping)]
    found = {}
    for kind in MASSES:
        pairs = [_pair(own.get(kind)) for own in runs]
        if pairs and not any(math.isnan(value) for pair in pairs for value in pair):
            found[kind] = (sum(p[0] for p in pairs) / len(pairs), sum(p[1] for p in pairs) / len(pairs))
    return (found, len(runs)) if found else None


def number(value: object) -> float:
    """A number of a file; NaN of anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _token(text: str, lines: Sequence[Mapping[str, Any]]) -> Token:
    before, after, rank = (
        sum(number(line.get(key)) for line in lines) / len(lines) for key in ("before", "after", "predicted_rank")
    )
    return Token(text, after - before, before, after, rank, len(lines))


def _pair(value: object) -> tuple[float, float]:
    return (number(value[0]), number(value[1])) if isinstance(value, list) and len(value) == 2 else (math.nan, math.nan)
