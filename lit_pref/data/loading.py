"""From pairs of token ids to batches, in the order that ``lit_pref.order`` gives. Knows nothing about files or text."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..batch import Pair, PreferenceBatch, collate
from ..order import PairBatches, Slot


class Batches(Dataset[PreferenceBatch]):
    """Maps the slots of a batch to the batch."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs

    def __getitem__(self, slots: list[Slot]) -> PreferenceBatch:
        return collate([self.pairs[position] for position, _ in slots], [real for _, real in slots])


def make_loader(pairs: Sequence[Pair], order: PairBatches, num_workers: int) -> DataLoader[PreferenceBatch]:
    """A loader whose sampler is ``order``; the module reads the size of its batches there."""
    return DataLoader(
        Batches(pairs),
        sampler=order,
        batch_size=None,  # the sampler's items are whole batches
        collate_fn=_as_is,
        num_workers=num_workers,
        # A generator of its own: starting an iterator must not draw from the global random state.
        generator=torch.Generator().manual_seed(0),
    )


def _as_is(batch: Any) -> Any:
    return batch
