"""Whether a choice leaves enough to train on. Knows choices and scores; nothing about where they come from."""

import numpy as np
from torch import Tensor

from .rules import Choice

#: Quantiles that a refusal shows.
SHOWN = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def too_few(choice: Choice, scores: Tensor, batch: int, measure: str) -> str | None:
    """Why a choice cannot be trained on, with the quantiles of the scores; None where it can.

    A choice of all pairs is no pruning, and left to whoever configured the batch.

    Args:
        choice: what a rule decided.
        scores: (n,) what it read.
        batch: pairs of a batch over all processes.
        measure: what the scores are of.
    """
    kept = int(choice.kept.sum())
    if choice.kept.all() or kept >= batch:
        return None
    numbers = scores.numpy()[~np.isnan(scores.numpy())]
    found = np.quantile(numbers, SHOWN) if len(numbers) else []
    line = ", ".join(f"{q:.0%} {value:.4g}" for q, value in zip(SHOWN, found, strict=False)) or "none is a number"
    return (
        f"would keep {kept:,} of {len(choice.kept):,} training pairs, less than one batch of {batch}.\n"
        f"  Quantiles of {measure}: {line}.\n"
        "  Fix: choose a rule that keeps more, or a smaller data.batch_size."
    )
