"""From pairs of token ids to batches, in the order that ``lit_pref.order`` gives. Knows nothing about files or text."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..batch import Pair, PreferenceBatch, collate
from ..errors import ConfigError
from ..order import PairBatches, Share


class Batches(Dataset[PreferenceBatch]):
    """Maps a share of positions to its batch.

    Args:
        pairs: the pairs of a source.
        partners: position -> position of the pair whose responses are its mismatched ones; None: no mismatched pairs.
        max_length: most tokens of a prompt and a response of another pair together.
    """

    def __init__(
        self, pairs: Sequence[Pair], partners: dict[int, int] | None = None, max_length: int | None = None
    ) -> None:
        self.pairs = pairs
        self.partners = partners
        self.max_length = max_length

    def __getitem__(self, share: Share) -> PreferenceBatch:
        batch = collate([self.pairs[position] for position in share.positions], share.counted)
        if self.partners is None:
            return batch
        mismatched = [self._mismatched(position) for position in share.positions]
        return batch._replace(mismatched=collate(mismatched, share.counted))

    def _mismatched(self, position: int) -> Pair:
        assert self.partners is not None
        pair, partner = self.pairs[position], self.pairs[self.partners[position]]
        room = None if self.max_length is None else self.max_length - len(pair.prompt)
        return Pair(pair.row, pair.prompt, partner.chosen[:room], partner.rejected[:room])


class ResumableLoader(DataLoader[PreferenceBatch]):
    """A loader that goes on where a checkpoint in the middle of an epoch left it; Lightning keeps its state."""

    sampler: PairBatches
    given = 0  # batches handed out in this pass, those before a restart among them

    def __iter__(self) -> Any:
        self.given = self.sampler.start
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.given, "of": len(self.sampler), "order": self.sampler.key}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["batches"] >= state["of"]:
            return  # a whole pass is over; the next one, maybe of other pairs, starts at its beginning
        if state["batches"] and state["order"] != self.sampler.key:
            raise ConfigError(
                f"the checkpoint is from within an epoch, after {state['batches']:,} of {state['of']:,} batches, but "
                "this command trains on other pairs, or in batches of another size or order, and cannot go on there.\n"
                "  Fix: give the data settings of its run, or a checkpoint from the end of an epoch."
            )
        self.sampler.start = state["batches"]


def make_loader(
    pairs: Sequence[Pair],
    order: PairBatches,
    num_workers: int,
    mismatched: bool = False,
    max_length: int | None = None,
) -> ResumableLoader:
    """A loader whose sampler is ``order``; the module reads the size of its batches there.

    Args:
        pairs: the pairs of a source.
        order: which of them make up which batch.
        num_workers: processes that prepare batches.
        mismatched: add to each batch its prompts with the responses of the pair that follows in the data.
        max_length: most tokens of such a prompt and response.
    """
    following = dict(zip(order.positions, order.positions[1:] + order.positions[:1], strict=True))
    return ResumableLoader(
        Batches(pairs, following if mismatched else None, max_length),
        sampler=order,
        batch_size=None,  # the sampler's items are whole batches
        collate_fn=_as_is,
        num_workers=num_workers,
        # A generator of its own: starting an iterator must not draw from the global random state.
        generator=torch.Generator().manual_seed(0),
    )


def _as_is(batch: Any) -> Any:
    return batch
