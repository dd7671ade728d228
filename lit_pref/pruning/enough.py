"""Whether a choice leaves enough to train on. Knows choices and scores; nothing about where they come from."""

from torch import Tensor

from ..similarity.summary import quantile_line
from .rules import Choice


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
    return (
        f"would keep {kept:,} of {len(choice.kept):,} training pairs, less than one batch of {batch}.\n"
        f"  Quantiles of {measure}: {quantile_line(scores.numpy())}.\n"
        "  Fix: choose a rule that keeps more, or a smaller data.batch_size."
    )
