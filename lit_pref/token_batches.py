"""Which pairs share a model call where calls are limited by tokens: a pure function of lengths, budget and processes.

Knows numbers of tokens; nothing about tokens themselves, models or trainers. "Pairs" are positions in the data.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from heapq import heapify, heapreplace

from .order import PairBatches, Share


def dealt(lengths: Sequence[int], bins: int) -> list[list[int]]:
    """Places 0.. of ``lengths`` in bins of about equal sums: the longest first, each into the bin that holds least."""
    found: list[list[int]] = [[] for _ in range(bins)]
    heap = [(0, i) for i in range(bins)]
    heapify(heap)
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        load, i = heap[0]
        found[i].append(place)
        heapreplace(heap, (load + lengths[place], i))
    return [sorted(places) for places in found]


def fits(lengths: Sequence[int], places: Sequence[int], most: int) -> bool:
    """Whether these may share a call of ``most`` tokens; a single pair always may, since it cannot be cut."""
    return len(places) < 2 or sum(lengths[place] for place in places) <= most


def calls_a_step(steps: Sequence[Sequence[int]], most: int, processes: int = 1) -> int:
    """Model calls a process and step, one number for all steps: the fewest with which every step fits, as dealt.

    Args:
        steps: lengths of the pairs of each step.
        most: tokens a call.
        processes: among whom the pairs of a step are dealt out.
    """
    calls, settled = 1, False
    while not settled:  # more calls need not fit a step that fewer fitted, so every step is asked again
        settled = True
        for lengths in steps:
            needed = -(-sum(min(length, most) for length in lengths) // (most * processes))
            calls = max(calls, needed)  # no dealing needs fewer
            while not all(fits(lengths, places, most) for places in dealt(lengths, calls * processes)):
                calls, settled = calls + 1, False
    return calls


def neighbours(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Places 0.. of ``lengths`` in runs of neighbours, each as long as ``most`` tokens allow."""
    runs: list[list[int]] = []
    load = 0
    for place, length in enumerate(lengths):
        if not runs or load + length > most:
            runs.append([])
            load = 0
        runs[-1].append(place)
        load += length
    return runs


class DealtBatches(PairBatches):
    """Batches that are known before the pass begins; subclasses deal them out."""

    most: int
    #: Of each call, the shares of all processes.
    shares: list[list[Share]]

    @property
    def key(self) -> str:
        """A name for these batches; unlike those of a number of pairs, they depend on how many processes there are."""
        parts = (super().key, self.most, self.world_size, len(self))
        return sha256(repr(parts).encode()).hexdigest()[:16]

    def __iter__(self) -> Iterator[Share]:
        first, self.start = self.start, 0
        for call in self.shares[first:]:
            yield call[self.rank]

    def _share_out(self, calls: Sequence[Sequence[list[int]]], filler: int) -> None:
        """Take the pairs of each call and process; who has none reads ``filler``, which does not count."""
        self.shares = [[Share(pairs or [filler], len(pairs)) for pairs in call] for call in calls]
        self.pair_counts = [sum(share.counted for share in call) for call in self.shares]


class TokenBatches(DealtBatches):
    """Optimizer steps of ``batch_size * world_size`` pairs in the order of ``PairBatches``, dealt out by length.

    Every step of an epoch takes ``calls`` model calls on every process, none of more than ``most`` tokens, unless it
    is of a single longer pair. Calls for which a step has no pair come first and read one that does not count.

    Args:
        positions: positions that take part, in data order.
        lengths: tokens of each pair of the data, by position.
        most: tokens a call.
        batch_size: pairs a step and process.
        shuffle_seed: seed of the order, or None to keep the data's order.
        rank: number of this process.
        world_size: number of processes.
        length: pairs an epoch; by default each position once.
        epoch: that the first pass is of.
    """

    def __init__(
        self,
        positions: Sequence[int],
        lengths: Sequence[int],
        most: int,
        batch_size: int,
        shuffle_seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
        epoch: int = 0,
    ) -> None:
        super().__init__(positions, batch_size, shuffle_seed, rank, world_size, length)
        self.lengths = lengths
        self.most = most
        self.epoch = epoch
        self._deal()

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            super().set_epoch(epoch)
            self._deal()

    def _deal(self) -> None:
        order, step = self.order()[: self.length], self.batch_size * self.world_size
        steps = [order[start : start + step] for start in range(0, len(order), step)]
        lengths = [[self.lengths[position] for position in pairs] for pairs in steps]
        #: Model calls a process and step of this epoch.
        self.calls = calls_a_step(lengths, self.most, self.world_size)
        calls: list[list[list[int]]] = []
        for pairs, tokens in zip(steps, lengths, strict=True):
            bins = dealt(tokens, self.calls * self.world_size)
            # Calls of all processes at a time are of about the same size: nobody waits for long.
            bins.sort(key=lambda places: (bool(places), -sum(tokens[place] for place in places)))
            mine = [[pairs[place] for place in places] for places in bins]
            calls += [mine[i : i + self.world_size] for i in range(0, len(mine), self.world_size)]
        self._share_out(calls, _shortest(self.positions, self.lengths))


class NeighbourBatches(DealtBatches):
    """Pairs in the data's order, as many neighbours a call as its tokens allow; calls are dealt out in turn.

    Args:
        positions: positions that take part, in data order.
        lengths: tokens of each pair of the data, by position.
        most: tokens a call.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self, positions: Sequence[int], lengths: Sequence[int], most: int, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(positions, 1, None, rank, world_size)
        self.most = most
        tokens = [lengths[position] for position in self.positions]
        runs = [[self.positions[place] for place in places] for places in neighbours(tokens, most)]
        runs += [[] for _ in range(-len(runs) % world_size)]
        calls = [runs[i : i + world_size] for i in range(0, len(runs), world_size)]
        self._share_out(calls, _shortest(self.positions, lengths))


def _shortest(positions: Sequence[int], lengths: Sequence[int]) -> int:
    """The pair that costs least to read; any number where there is none."""
    return min(positions, key=lambda position: lengths[position], default=0)
