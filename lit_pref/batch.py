"""Pairs of token ids to tensors. The only file that pads; it knows nothing about text, models or losses.

Besides ids, positions and attention, a batch lists its targets flat, so that every later step is the same for any
layout: gather the predicting states at ``state_index``, score ``target``, sum by ``sequence``.
Legend: B pairs, M of which count, T columns, N response tokens of the whole batch. Sequences 0..B-1 are chosen,
B..2B-1 rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor


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
    """S responses, each behind its prompt, as tensors; the fields are those of a ``PreferenceBatch`` with S for 2B."""

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    state_index: Tensor
    target: Tensor
    sequence: Tensor
    lengths: Tensor


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

    @property
    def size(self) -> int:
        """B, fillers included."""
        return len(self.lengths) // 2


def collate(
    pairs: Sequence[Pair],
    counted: int | None = None,
    padding_side: Literal["left", "right"] = "right",
) -> PreferenceBatch:
    """Lay B pairs out as 2B padded rows, all chosen responses first.

    Args:
        pairs: B pairs; every prompt holds at least one token, since the first response token needs a predictor.
        counted: how many of them count, the first ones; all by default.
        padding_side: where the padding goes; no score depends on it.
    """
    sequences = [(pair.prompt, pair.chosen) for pair in pairs] + [(p.prompt, p.rejected) for p in pairs]
    rows = torch.tensor([pair.row for pair in pairs[:counted]], dtype=torch.int64)
    return PreferenceBatch(*lay_out(sequences, padding_side), rows, _rewards(pairs[:counted]))


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
    state_index, target, sequence = [], [], []
    for i, (prompt, response) in enumerate(sequences):
        length = len(prompt) + len(response)
        start = width - length if padding_side == "left" else 0
        input_ids[i, start : start + length] = torch.tensor([*prompt, *response])
        attention_mask[i, start : start + length] = 1
        position_ids[i, start : start + length] = torch.arange(length)
        # The state at the last prompt token predicts the first response token, and so on.
        first = i * width + start + len(prompt) - 1
        state_index.append(torch.arange(first, first + len(response)))
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
    )


def _rewards(pairs: Sequence[Pair]) -> Tensor | None:
    sides = [[pair.chosen_reward for pair in pairs], [pair.rejected_reward for pair in pairs]]
    if any(reward is None for side in sides for reward in side):
        return None
    return torch.tensor(sides, dtype=torch.float32)
