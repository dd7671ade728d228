"""Which of a prompt's responses is chosen, which rejected, or why neither. Pure: verdicts and numbers in, places out.

A refusal beats a compliance. Two of a kind are a tie, decided by their tie scores. A response without the verdict
refusal or compliance is in no pair: there is no label for what the judge could not read, and none is drawn.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..judges import Label
from ..world.onpolicy import MIXED, TWO_COMPLIANCES, TWO_REFUSALS

Pairing = Literal["first", "extremes"]
#: Why a prompt gives no pair, in the order in which a table lists them; where several hold, the first is said.
DROPPED = (
    "verdict: error",
    "verdict: unparseable",
    "verdict: partial",
    "empty response",
    "equal responses",
    "tie, and no tie-break is set",
    "tie that the tie-break leaves open",
)
CLASSES = (TWO_REFUSALS, TWO_COMPLIANCES, MIXED)
VERDICTS = ("refusal", "compliance")


class Candidate(NamedTuple):
    """A response as far as labelling needs it.

    Attributes:
        text: the response.
        label: the judge's verdict.
        score: of the tie-break, higher is better; None where it has none.
    """

    text: str
    label: Label
    score: float | None = None


class Labelled(NamedTuple):
    """A pair.

    Attributes:
        chosen: place of the chosen response among the candidates.
        rejected: place of the rejected one.
        pair_class: what kind of pair it is.
        tie: whether the tie-break decided.
    """

    chosen: int
    rejected: int
    pair_class: str
    tie: bool


def label(candidates: Sequence[Candidate], pairing: Pairing, tie_break: bool) -> Labelled | str:
    """The pair of one prompt, or one of ``DROPPED``.

    Args:
        candidates: the responses in the order in which they were sampled.
        pairing: "first": the first two different responses that have a verdict. "extremes": the best and the worst
            of all that have one; refusals are better than compliances, and among refusals and among compliances the
            score decides; where it does not (none, or equal), the one that was sampled first.
        tie_break: whether there are scores.
    """
    usable = _usable(candidates)
    if len(usable) < 2:
        return _why(candidates)
    if pairing == "first":
        return _decide(candidates, usable[0], usable[1], tie_break)
    kinds = [[i for i in usable if candidates[i].label == verdict] for verdict in VERDICTS]
    refusals, compliances = kinds
    if refusals and compliances:
        best = max(refusals, key=lambda i: (_or_least(candidates[i].score), -i))
        worst = max(compliances, key=lambda i: (-_or_most(candidates[i].score), -i))
        return Labelled(best, worst, MIXED, False)
    scored = [i for i in refusals or compliances if _or_least(candidates[i].score) > float("-inf")]
    if not tie_break or len(scored) < 2:
        return DROPPED[6] if tie_break else DROPPED[5]
    best = max(scored, key=lambda i: (_or_least(candidates[i].score), -i))
    worst = min(scored, key=lambda i: (_or_least(candidates[i].score), i))
    return _decide(candidates, best, worst, tie_break)


def needs_tie_break(candidates: Sequence[Candidate], pairing: Pairing) -> list[int]:
    """Places of the responses whose scores ``label`` reads; so that no reward model reads what is decided already."""
    usable = _usable(candidates)
    if len(usable) < 2:
        return []
    if pairing == "first":
        usable = usable[:2]
        return usable if candidates[usable[0]].label == candidates[usable[1]].label else []
    return usable


def _usable(candidates: Sequence[Candidate]) -> list[int]:
    """Places of responses with a verdict, each text once."""
    first: dict[str, int] = {}
    for i, candidate in enumerate(candidates):
        if candidate.label in VERDICTS and candidate.text.strip():
            first.setdefault(candidate.text.strip(), i)
    return list(first.values())


def _why(candidates: Sequence[Candidate]) -> str:
    """Of a prompt with fewer than two usable responses."""
    labels = {candidate.label for candidate in candidates if candidate.text.strip()}
    lacking = next((name for name in ("error", "unparseable", "partial") if name in labels), None)
    if lacking is not None:
        return f"verdict: {lacking}"
    return "equal responses" if all(candidate.text.strip() for candidate in candidates) else "empty response"


def _decide(candidates: Sequence[Candidate], first: int, second: int, tie_break: bool) -> Labelled | str:
    a, b = candidates[first], candidates[second]
    if a.label != b.label:
        chosen, rejected = (first, second) if a.label == "refusal" else (second, first)
        return Labelled(chosen, rejected, MIXED, False)
    if not tie_break:
        return DROPPED[5]
    if a.score is None or b.score is None or not (a.score > b.score or b.score > a.score):  # NaN decides nothing
        return DROPPED[6]
    chosen, rejected = (first, second) if a.score > b.score else (second, first)
    return Labelled(chosen, rejected, TWO_REFUSALS if a.label == "refusal" else TWO_COMPLIANCES, True)


def _or_least(score: float | None) -> float:
    return float("-inf") if score is None or score != score else score


def _or_most(score: float | None) -> float:
    return float("inf") if score is None or score != score else score
