"""Where mass went, as the record that a run keeps and the sentences that it ends with. Pure functions of numbers."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import numpy as np
from torch import Tensor

from lit_pref.similarity.summary import spearman
from lit_pref.token_groups import PARTS

#: Changes of mean probability below this are not named.
SMALLEST = 0.01


def section(
    probs: tuple[Tensor, Tensor],
    logps: tuple[Tensor, Tensor],
    predicted: Tensor | None,
    positions: int,
    top: int,
    text: Callable[[int], str],
) -> dict[str, Any]:
    """One distribution of mass.json; null for what is no number, and no tokens of a run that diverged.

    Args:
        probs: (V,) mean probabilities before and after.
        logps: (V,) mean log-probabilities before and after, nats.
        predicted: (V,) what the output embedding told of gains; None where it could not be read.
        positions: how many positions the means are over.
        top: tokens of each kind that are listed.
        text: of a token.
    """
    before, after = (values.double().numpy() for values in probs)
    change, moved = after - before, (logps[1] - logps[0]).double().numpy()
    told = None if predicted is None else predicted.double().numpy()
    found: dict[str, Any] = {"positions": positions, "spearman": None, "tokens": []}
    if not np.isfinite(change).all():
        return found
    if told is not None:
        found["spearman"] = finite(spearman(told, np.where(np.isfinite(moved), moved, np.nan)))
    ranks = None if told is None else ranks_of(told)
    for token in listed(change, told, top):
        found["tokens"].append({
            "token": token,
            "text": text(token),
            "before": float(before[token]),
            "after": float(after[token]),
            "predicted": None if told is None else finite(float(told[token])),
            "predicted_rank": None if ranks is None else int(ranks[token]),
        })  # fmt: skip
    return found


def listed(change: np.ndarray, predicted: np.ndarray | None, top: int) -> list[int]:
    """The ``top`` tokens that rose most, then those that fell most, then the most predicted ones that are neither.

    Args:
        change: (V,) of mean probability.
        predicted: (V,) gains that were told, or None.
        top: how many of each.
    """
    order = np.argsort(-change, kind="stable")
    rose = [int(token) for token in order[:top] if change[token] > 0]
    fell = [int(token) for token in order[::-1][:top] if change[token] < 0]
    told = [] if predicted is None else np.argsort(-predicted, kind="stable")[:top].tolist()
    return rose + fell + [token for token in told if token not in rose + fell]


def ranks_of(values: np.ndarray) -> np.ndarray:
    """Rank of each of (V,) values, 1 for the highest; of equal ones the first comes first."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return ranks


def finite(value: float) -> float | None:
    """None for what JSON has no word for."""
    return value if isfinite(value) else None


def group_sentence(before: Sequence[float], after: Sequence[float]) -> str:
    """Whether mass stayed among words of like meaning.

    Args:
        before: mean masses of ``PARTS`` before training.
        after: the same after it.
    """
    _, _, benign, catastrophic, _ = zip(before, after, strict=True)
    if not any(benign + catastrophic):
        return "No chosen response begins with a word of a group, so no mass is benign or catastrophic."
    # Rounded here, so that nothing is said to have changed by -0.00.
    change = {name: round(b - a, 2) + 0.0 for name, a, b in zip(PARTS, before, after, strict=True)}
    own, rejected = change["chosen"], change["rejected"]
    gains = [change[name] for name in ("benign", "catastrophic", "other")]
    if own <= -SMALLEST and rejected < SMALLEST and min(gains) > -SMALLEST / 2:
        left = f"the chosen token ({own:+.2f}) and the rejected one ({rejected:+.2f})"
        left = left if rejected <= -SMALLEST else f"the chosen token ({own:+.2f})"
        return (
            f"Of the mass that left {left}, {max(gains[0], 0):.2f} went to other words of the chosen one's group "
            f"(benign), {max(gains[1], 0):.2f} to words of other groups (catastrophic), {max(gains[2], 0):.2f} "
            "elsewhere."
        )
    return (
        f"Mass changed by {own:+.2f} on the chosen token, {rejected:+.2f} on the rejected one, {gains[0]:+.2f} on "
        f"other words of the chosen one's group (benign), {gains[1]:+.2f} on words of other groups (catastrophic), "
        f"{gains[2]:+.2f} elsewhere."
    )
