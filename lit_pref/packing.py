"""Prompts with their responses, packed into one row without padding. Knows token ids; nothing of models or losses.

A group is a prompt and all responses to it: the prompt stands there once, the responses behind it, and every response
begins at the position behind the prompt. No token may see those of another response or group; ``packed_attention``
keeps them apart. Legend: L tokens of the row, S responses, N response tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Ids = Sequence[int]


class Group(NamedTuple):
    """Tokens of a prompt, at least one, and of each response to it."""

    prompt: int
    responses: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.prompt + sum(self.responses)


class PackedRow(NamedTuple):
    """Groups in one row.

    Attributes:
        input_ids: (1, L) int64.
        position_ids: (1, L) int64; what the model is told, counted from the beginning of the prompt.
        state_index: (N,) int64; where the state sits that predicts a response token. A prompt's last state predicts
            the first token of each of its responses.
        first_index: (S,) int64; where the first token of each response stands.
        groups: in the order of the row. Plain numbers, which stay on the CPU wherever the tensors go.
    """

    input_ids: Tensor
    position_ids: Tensor
    state_index: Tensor
    first_index: Tensor
    groups: tuple[Group, ...]


def pack(groups: Sequence[tuple[Ids, Sequence[Ids]]], order: Sequence[tuple[int, int]] | None = None) -> PackedRow:
    """Lay groups out one after another.

    Args:
        groups: (prompt, responses) in token ids; prompts hold at least one token.
        order: in which responses are listed, as (group, response); by default as they stand in the row.
    """
    ids: list[int] = []
    positions: list[int] = []
    states: dict[tuple[int, int], Tensor] = {}
    firsts: dict[tuple[int, int], int] = {}
    for number, (prompt, responses) in enumerate(groups):
        last = len(ids) + len(prompt) - 1
        ids += prompt
        positions += range(len(prompt))
        for place, response in enumerate(responses):
            own = torch.arange(len(ids) - 1, len(ids) - 1 + len(response))
            own[:1] = last
            firsts[number, place] = len(ids)
            states[number, place] = own
            ids += response
            positions += range(len(prompt), len(prompt) + len(response))
    sizes = tuple(Group(len(prompt), tuple(len(r) for r in responses)) for prompt, responses in groups)
    return PackedRow(
        torch.tensor([ids], dtype=torch.int64),
        torch.tensor([positions], dtype=torch.int64),
        torch.cat([states[key] for key in (order or states)]) if states else torch.empty(0, dtype=torch.int64),
        torch.tensor([firsts[key] for key in (order or firsts)], dtype=torch.int64),
        sizes,
    )


def by_prompt(sequences: Sequence[tuple[Ids, Ids]]) -> list[list[int]]:
    """Places of the (prompt, response) sequences that share a prompt, in the order in which prompts come first."""
    places: dict[tuple[int, ...], list[int]] = {}
    for i, (prompt, _) in enumerate(sequences):
        places.setdefault(tuple(prompt), []).append(i)
    return list(places.values())


def first_alone(row: PackedRow) -> PackedRow:
    """The row without all but the first response to each prompt; the row lists these before all others."""
    kept, start = [], 0
    for group in row.groups:
        kept.append(torch.arange(start, start + group.prompt + sum(group.responses[:1])))
        start += group.tokens
    tokens = torch.cat(kept).to(row.input_ids.device)
    # What stands at a token that is left out is in no first response.
    place = torch.full((start,), -1, device=tokens.device).index_put((tokens,), torch.arange(len(tokens)).to(tokens))
    counts = torch.tensor([length for group in row.groups for length in group.responses[:1]])
    states, firsts = place[row.state_index[: int(counts.sum())]], place[row.first_index[: len(counts)]]
    groups = tuple(Group(group.prompt, group.responses[:1]) for group in row.groups)
    return PackedRow(row.input_ids[:, tokens], row.position_ids[:, tokens], states, firsts, groups)


def encode(groups: Sequence[Group]) -> Tensor:
    """Groups as a (1, 1, 1, n) int64 tensor: what a model hands to its attention where masks usually go."""
    flat = [number for group in groups for number in (group.prompt, len(group.responses), *group.responses)]
    return torch.tensor(flat, dtype=torch.int64).view(1, 1, 1, -1)


def decode(code: Tensor) -> list[Group]:
    """Groups from what ``encode`` made of them."""
    numbers: Iterator[int] = iter(code.flatten().tolist())
    return [Group(prompt, tuple(next(numbers) for _ in range(next(numbers)))) for prompt in numbers]
