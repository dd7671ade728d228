"""Measuring all pairs of a data set, window after window. Knows nothing about what is done with the values.

A window is what is sorted by length, and what a restart of ``lit-pref score`` repeats at most. Its size is fixed, so
that values depend on neither restarts nor processes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..batch import Pair
from ..console import counting
from ..processes import ALONE, Processes
from .measuring import Measuring

#: Pairs of a window.
WINDOW = 256


def windows(count: int) -> list[range]:
    """Places of the pairs of each window."""
    return [range(start, min(start + WINDOW, count)) for start in range(0, count, WINDOW)]


def measure_all(
    model: nn.Module,
    pairs: Sequence[Pair],
    positions: Sequence[int],
    measuring: Measuring,
    processes: Processes = ALONE,
    name: str = "Measuring pairs",
) -> dict[str, Tensor]:
    """Measure the pairs at some positions, on every process.

    Args:
        model: a causal language model.
        pairs: the pairs of a source.
        positions: n of them, in the order of the data.
        measuring: what to measure.
        processes: among whom the work is dealt out.
        name: of the progress bar.

    Returns:
        name -> (n,) float64 on the CPU.
    """
    parts: list[dict[str, Tensor]] = []
    with counting(name, len(positions)) as advance:
        for window in windows(len(positions)):
            parts.append(measuring(model, [pairs[positions[i]] for i in window], processes))
            advance(len(window))
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
