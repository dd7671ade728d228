"""The calls of attention that make up a packed row, and who sees whom in each. Knows groups; nothing of queries.

Legend: L tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .packing import Group

#: Neighbouring groups share one call up to this many tokens: what is computed in vain costs less than a call.
DENSE_TOKENS = 128


class Block(NamedTuple):
    """A call: queries of some tokens, and the keys that they see.

    Attributes:
        queries: tokens of the row.
        prompt: of a further response, the tokens of its prompt, with which the last call without this number begins;
            0 where all keys are those of the queries themselves.
        groups: whose tokens these are, where masks keep several apart.
    """

    queries: int
    prompt: int = 0
    groups: tuple[Group, ...] = ()


def blocks(groups: list[Group]) -> list[Block]:
    """The calls for a row, in its order."""
    found: list[Block] = []
    waiting: list[Group] = []

    def together() -> None:
        if waiting:
            found.append(Block(sum(group.tokens for group in waiting), groups=tuple(waiting)))
            waiting.clear()

    for group in groups:
        if sum(g.tokens for g in waiting) + group.tokens > DENSE_TOKENS:
            together()
        if group.tokens <= DENSE_TOKENS:
            waiting.append(group)
            continue
        first, *others = group.responses or (0,)
        found.append(Block(group.prompt + first))
        found += [Block(length, group.prompt) for length in others if length]
    together()
    return found


def visible(groups: tuple[Group, ...], window: int | None) -> Tensor:
    """(L, L) bool: which token (row) sees which (column) in a row of groups."""
    owner: list[int] = []
    branch: list[int] = []
    position: list[int] = []
    for number, group in enumerate(groups):
        owner += [number] * group.tokens
        branch += [0] * group.prompt
        position += range(group.prompt)
        for place, length in enumerate(group.responses):
            branch += [place + 1] * length
            position += range(group.prompt, group.prompt + length)
    g, b, p = (torch.tensor(values) for values in (owner, branch, position))
    mine = (g[:, None] == g) & ((b == 0) | (b[:, None] == b)) & (p <= p[:, None])
    return mine if window is None else mine & (p > p[:, None] - window)


def behind(prompt: int, queries: int, window: int | None) -> Tensor:
    """(queries, prompt + queries) bool: a response sees its prompt and itself up to each token."""
    q = torch.arange(prompt, prompt + queries)[:, None]
    k = torch.arange(prompt + queries)
    return (k <= q) if window is None else (k <= q) & (k > q - window)


class Row:
    """The calls for one packed row, with masks that all layers share."""

    def __init__(self, groups: list[Group]) -> None:
        self.blocks = blocks(groups)
        self._masks: dict[tuple[int | None, torch.device], list[Tensor | None]] = {}

    def masks(self, window: int | None, device: torch.device) -> list[Tensor | None]:
        """A mask for each call, None where it is causal."""
        key = (window, device)
        if key not in self._masks:
            self._masks[key] = [self._mask(block, window, device) for block in self.blocks]
        return self._masks[key]

    @staticmethod
    def _mask(block: Block, window: int | None, device: torch.device) -> Tensor | None:
        if block.prompt:
            return behind(block.prompt, block.queries, window).to(device)
        if not block.groups and (window is None or block.queries <= window):
            return None
        return visible(block.groups or (Group(block.queries, ()),), window).to(device)
