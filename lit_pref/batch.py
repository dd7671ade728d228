"""Pairs of token ids to tensors. The only file that pads; it knows nothing about text, models or losses.

Besides ids, positions and attention, a batch lists its targets flat, so that every later step is the same for any
layout, padded or packed: gather the predicting states at ``state_index``, score ``target``, sum by ``sequence``.
Legend: B pairs, M of which count, T columns, N response tokens of the whole batch. Sequences 0..B-1 are chosen,
B..2B-1 rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .packing import Group, Ids, PackedRow, by_prompt, pack

#: What a batch has in common with a layout of padded rows.
PADDED = ("input_ids", "attention_mask", "position_ids", "state_index", "target", "sequence", "lengths")


class Pair(NamedTuple):
    """One preference pair in token ids; ``row`` is its row number in the source, its name for life.

    ``id`` is the name that the data give it, where they do; ``labels`` are its values in ``data.columns.labels``.
    """

    row: int
    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]
    chosen_reward: float | None = None
    rejected_reward: float | None = None
    id: str | None = None
    labels: tuple[str | None, ...] = ()


class Layout(NamedTuple):
    """S responses, each behind its prompt, as tensors.

    Attributes:
        input_ids: (R, T) int64; a row a response, or one row for all where they are packed.
        attention_mask: (R, T) int64; 1 at real tokens. None where rows are packed.
        position_ids: (R, T) int64.
        state_index: (N,) int64; as in ``PreferenceBatch``.
        target: (N,) int64.
        sequence: (N,) int64; which of the S responses a target belongs to.
        lengths: (S,) int64; response tokens.
        first_index: (S,) int64; where the first token of each response stands, an index like ``state_index``.
        groups: of a packed row; empty where rows are padded.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor
    state_index: Tensor
    target: Tensor
    sequence: Tensor
    lengths: Tensor
    first_index: Tensor | None = None
    groups: tuple[Group, ...] = ()

    def to(self, device: torch.device) -> Layout:
        """The same on a device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in self._asdict().items() if isinstance(value, Tensor)
        }
        return self._replace(**moved)


class PreferenceBatch(NamedTuple):
    """B pairs as tensors.

    Attributes:
        input_ids: (2B, T) int64; one row a response, prompt before it.
        attention_mask: (2B, T) int64; 1 at real tokens.
        position_ids: (2B, T) int64; counted from the first real token, so that padding on either side is exact.
        state_index: (N,) int64; where the state sits that predicts a target, an index into the flattened (2B*T).
        target: (N,) int64; the response tokens.
        sequence: (N,) int64; which of the 2B responses a target belongs to.
        lengths: (2B,) int64; response tokens.
        rows: (M,) int64; row numbers of the pairs that count, the first M. The other B - M pairs only fill up this
            process's share of the work, so that all processes make the same calls; they are scored and forgotten.
        rewards: (2, M) float32 annotated rewards of chosen and rejected, or None where the data have none.
        mismatched: the prompts of the M pairs with the responses of other pairs, where an objective asks for them.
        packed: the same pairs in one row, for models that read it; it lists states in the order of ``target``.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    state_index: Tensor
    target: Tensor
    sequence: Tensor
    lengths: Tensor
    rows: Tensor
    rewards: Tensor | None = None
    mismatched: PreferenceBatch | None = None
    packed: PackedRow | None = None

    @property
    def size(self) -> int:
        """B, fillers included."""
        return len(self.lengths) // 2

    def layout(self, packs: bool) -> Layout:
        """The 2B responses as a model reads them.

        Args:
            packs: whether the model reads packed rows.
        """
        flat = self.target, self.sequence, self.lengths
        if packs and self.packed is not None:
            row = self.packed
            return Layout(row.input_ids, None, row.position_ids, row.state_index, *flat, row.first_index, row.groups)
        return Layout(self.input_ids, self.attention_mask, self.position_ids, self.state_index, *flat)


def collate(
    pairs: Sequence[Pair],
    counted: int | None = None,
    padding_side: Literal["left", "right"] = "right",
) -> PreferenceBatch:
    """Lay B pairs out as 2B padded rows, all chosen responses first, and as one packed row.

    Args:
        pairs: B pairs; every prompt holds at least one token, since the first response token needs a predictor.
        counted: how many of them count, the first ones; all by default.
        padding_side: where the padding goes; no score depends on it.
    """
    sequences = [(pair.prompt, pair.chosen) for pair in pairs] + [(p.prompt, p.rejected) for p in pairs]
    rows = torch.tensor([pair.row for pair in pairs[:counted]], dtype=torch.int64)
    packed = pack(
        [(pair.prompt, (pair.chosen, pair.rejected)) for pair in pairs],
        [(number, side) for side in range(2) for number in range(len(pairs))],
    )
    layout = lay_out(sequences, padding_side)
    padded: dict[str, Any] = {name: getattr(layout, name) for name in PADDED}
    return PreferenceBatch(**padded, rows=rows, rewards=_rewards(pairs[:counted]), packed=packed)


def lay_out_packed(sequences: Sequence[tuple[Ids, Ids]]) -> Layout:
    """Lay (prompt, response) sequences out as one packed row, in which equal prompts stand once.

    Args:
        sequences: S of them; prompts hold at least one token.
    """
    places = by_prompt(sequences)
    order = {i: (number, place) for number, own in enumerate(places) for place, i in enumerate(own)}
    row = pack(
        [(sequences[own[0]][0], [sequences[i][1] for i in own]) for own in places],
        [order[i] for i in range(len(sequences))],
    )
    lengths = torch.tensor([len(response) for _, response in sequences])
    target = torch.tensor([token for _, response in sequences for token in response], dtype=torch.int64)
    sequence = torch.arange(len(sequences)).repeat_interleave(lengths)
    flat = target, sequence, lengths, row.first_index
    return Layout(row.input_ids, None, row.position_ids, row.state_index, *flat, row.groups)


def lay_out(
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]], padding_side: Literal["left", "right"] = "right"
) -> Layout:
    """Lay (prompt, response) sequences out as padded rows.

    Args:
        sequences: S of them; prompts hold at least one token.
        padding_side: where the padding goes; no score depends on it.
    """
    width = max(len(prompt) + len(response) for prompt, response in sequences)
    input_ids = torch.zeros(len(sequences), width, dtype=torch.int64)  # (S, T)
    attention_mask = torch.zeros_like(input_ids)
    position_ids = torch.zeros_like(input_ids)
    state_index, target, sequence, firsts = [], [], [], []
    for i, (prompt, response) in enumerate(sequences):
        length = len(prompt) + len(response)
        start = width - length if padding_side == "left" else 0
        input_ids[i, start : start + length] = torch.tensor([*prompt, *response])
        attention_mask[i, start : start + length] = 1
        position_ids[i, start : start + length] = torch.arange(length)
        # The state at the last prompt token predicts the first response token, and so on.
        first = i * width + start + len(prompt) - 1
        state_index.append(torch.arange(first, first + len(response)))
        firsts.append(first + 1)
        target.append(torch.tensor(list(response), dtype=torch.int64))
        sequence.append(torch.full((len(response),), i))
    return Layout(
        input_ids,
        attention_mask,
        position_ids,
        torch.cat(state_index),
        torch.cat(target),
        torch.cat(sequence),
        torch.tensor([len(response) for _, response in sequences]),
        torch.tensor(firsts),
    )


def _rewards(pairs: Sequence[Pair]) -> Tensor | None:
    sides = [[pair.chosen_reward for pair in pairs], [pair.rejected_reward for pair in pairs]]
    if any(reward is None for side in sides for reward in side):
        return None
    return torch.tensor(sides, dtype=torch.float32)
