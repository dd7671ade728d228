"""Which rows make up which batch on which process: a pure function of seed, epoch and kept rows.

Knows nothing about tokens, tensors of ids or models.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

import torch
from torch.utils.data import Sampler


class Share(NamedTuple):
    """One process's share of a batch: B positions in the data, of which the first ``counted`` count.

    The others only fill the share up to the size of the other processes' shares.
    """

    positions: list[int]
    counted: int


def epoch_order(positions: Sequence[int], seed: int, epoch: int) -> list[int]:
    """The positions, shuffled by (seed, epoch) alone: independent of global random state and of process counts."""
    return repeated_order(positions, len(positions), seed, epoch)


def repeated_order(positions: Sequence[int], length: int, seed: int, epoch: int) -> list[int]:
    """``length`` positions: whole passes over all of them, each shuffled anew, the last one cut."""
    # Passes go on with one generator: torch keeps 32 bits of a seed, too few to tell epochs and passes apart.
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    order: list[int] = []
    while len(order) < length:
        order += [positions[i] for i in torch.randperm(len(positions), generator=generator).tolist()]
    return order[:length]


class PairBatches(Sampler[Share]):
    """Batches of positions for one process.

    A global batch of ``batch_size * world_size`` consecutive positions of the order is dealt out to the processes
    in turn. The last one may be smaller; processes that would get fewer pairs than others are filled up with pairs
    that do not count, so that every process makes the same number of model calls of the same batch size.

    Args:
        positions: positions that take part, in data order.
        batch_size: pairs a batch and process.
        shuffle_seed: seed of the order, or None to keep the data's order.
        rank: number of this process.
        world_size: number of processes.
        length: pairs an epoch; by default each position once. More repeat them in passes, each in an order of its own.
    """

    def __init__(
        self,
        positions: Sequence[int],
        batch_size: int,
        shuffle_seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
    ) -> None:
        self.positions = list(positions)
        self.length = len(self.positions) if length is None else length
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        #: First batch of the next pass; a restart in the middle of an epoch sets it.
        self.start = 0
        step = batch_size * world_size
        #: Pairs that count in each batch, over all processes.
        self.pair_counts = [min(step, self.length - i) for i in range(0, self.length, step)]

    @property
    def key(self) -> str:
        """A name for the batches of every epoch, over all processes; another number of processes may have the same."""
        parts = (self.positions, self.length, self.batch_size * self.world_size, self.shuffle_seed)
        return sha256(repr(parts).encode()).hexdigest()[:16]

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def order(self) -> list[int]:
        """The positions of this epoch, one after the other."""
        if self.shuffle_seed is None:
            return self.positions
        return repeated_order(self.positions, self.length, self.shuffle_seed, self.epoch)

    def __len__(self) -> int:
        return len(self.pair_counts)

    def __iter__(self) -> Iterator[Share]:
        order = self.order()
        step = self.batch_size * self.world_size
        first, self.start = self.start, 0
        for start in range(first * step, len(order), step):
            chunk = order[start : start + step]
            own = list(chunk[self.rank :: self.world_size])
            width = -(-len(chunk) // self.world_size)
            yield Share(own + [chunk[0]] * (width - len(own)), len(own))


def pairs_per_step(pair_counts: Sequence[int], batch_index: int, accumulate: int) -> int:
    """Pairs that share the optimizer step of batch ``batch_index``, over all its micro-batches and processes.

    The trailing group of an epoch may hold fewer than ``accumulate`` micro-batches, and the last micro-batch fewer
    pairs; each group is counted by what it holds.
    """
    first = batch_index // accumulate * accumulate
    return sum(pair_counts[first : first + accumulate])
