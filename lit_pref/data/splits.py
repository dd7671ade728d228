"""Which positions of a source are trained on and which validate. Knows positions and prompts, nothing else."""

from collections.abc import Iterable, Sequence

from ..batch import Pair
from ..order import epoch_order


def split_positions(count: int, val_size: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions to train on and to validate on, both in data order; a pure function of its arguments.

    Args:
        count: pairs in the source.
        val_size: share of them below 1, number of them from 1 on; a share above 0 of two pairs or more is at least one.
        seed: of the choice.
    """
    size = round(count * val_size) if val_size < 1 else int(val_size)
    if val_size > 0 and count > 1:
        size = max(size, 1)
    chosen = set(epoch_order(range(count), seed, 0)[:size])
    return [i for i in range(count) if i not in chosen], sorted(chosen)


def shared_prompts(train: Iterable[Pair], val: Sequence[Pair]) -> int:
    """Number of validation pairs whose prompt is also trained on."""
    prompts = {hash(tuple(pair.prompt)) for pair in train}
    return sum(hash(tuple(pair.prompt)) in prompts for pair in val)
