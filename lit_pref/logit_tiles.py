"""Some tokens' log-probabilities by tiles of the vocabulary, and their gradient. Knows states and one matrix.

Exponentials of a tile are relative to the tile's own largest logit; one number a token and tile turns them into
probabilities, so that neither direction multiplies a whole tile by anything.
Legend: n tokens, D hidden, V vocabulary, v of a tile.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .logit_rule import LogitRule

#: Vocabulary entries of a tile.
TILE = 4096


class Arithmetic(NamedTuple):
    """How products are computed.

    Attributes:
        rule: from products to logits.
        dtype: of the factors; sums over the vocabulary are float32 (float64 where states are).
        kept: exponentials that may stay for backward.
        collisions: whether collisions are asked for.
    """

    rule: LogitRule
    dtype: torch.dtype
    kept: int
    collisions: bool


class Sums(NamedTuple):
    """Where gradients go.

    Attributes:
        states: (n, D) of a chunk, to write; None where it is not needed, like the others.
        weight: (V, D) of all chunks, to write by the first one, and to add to by the others.
        bias: (V,) of all chunks, to add to.
        first: whether this is the first chunk.
    """

    states: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    first: bool


def wide_of(states: Tensor) -> torch.dtype:
    """Of sums over the vocabulary."""
    return torch.promote_types(states.dtype, torch.float32)


class TokenChunk:
    """Some tokens: their log-probabilities, and what backward reads again.

    Attributes:
        logps: (n,) log-probabilities.
        collisions: (n,) log sum_v p_v^2; empty where not asked for.
        exponentials: of the first tiles, (n, v) each, times the slope of the cap where there is one.
        shifts: (tiles, n) logarithm of what turns a tile's exponentials into probabilities.
        slope: (n,) of the cap at the target's logit, or None.
    """

    def __init__(
        self, states: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, how: Arithmetic, room: int
    ) -> None:
        self.how = how
        self.exponentials: list[Tensor] = []
        scaled = self._scaled(states)
        wide = wide_of(states)
        own = torch.zeros(len(states), dtype=wide, device=states.device)  # the target's logit
        tops, sums, squares = [], [], []
        for tile in self._tiles(weight):
            logits = self._logits(scaled, weight, bias, tile, wide)  # (n, v)
            place = target - tile.start
            inside = (place >= 0) & (place < logits.shape[1])
            found = logits.gather(1, place.clamp(0, logits.shape[1] - 1).unsqueeze(1)).squeeze(1)
            own = torch.where(inside, found, own)
            keep = room >= logits.numel()
            exponentials, top, slopes = self._exponentials(logits, keep)
            tops.append(top)
            sums.append(exponentials.sum(1))
            if how.collisions:
                squares.append((exponentials * exponentials).sum(1))
            if keep:
                room -= logits.numel()
                kept = exponentials if slopes is None else exponentials.mul_(slopes)
                self.exponentials.append(kept.to(how.dtype))
            else:
                room = 0  # tiles that are kept are the first ones
        heights, totals = torch.stack(tops), torch.stack(sums)  # (tiles, n)
        # Relative to the largest logit of all, so that large logits cost no digits.
        highest = heights.amax(0)
        heights = heights - highest
        log_total = (totals * heights.exp()).sum(0).log()  # (n,)
        self.logps = own - highest - log_total
        self.shifts = heights - log_total
        self.collisions = own.new_zeros(0)
        if how.collisions:
            self.collisions = (torch.stack(squares) * (2 * heights).exp()).sum(0).log() - 2 * log_total
        cap = how.rule.cap
        self.slope = None if cap is None else 1 - (own / cap) ** 2

    def backward(
        self,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        grad: Tensor,
        sums: Sums,
    ) -> None:
        """Write the gradient by states, and add those by weight and bias.

        With logits z = cap(scale * (h W^T + b)), d log p(y)/dz_v = [v = y] - p_v.
        """
        dtype, scale = self.how.dtype, self.how.rule.scale
        scaled = self._scaled(states)
        back = grad.new_zeros(states.shape)  # (n, D)
        for number, tile in enumerate(self._tiles(weight)):
            weights = grad * self.shifts[number].exp()  # (n,)
            if (
                self.exponentials
            ):  # each is read once, and makes room for gradients; a second backward computes it again
                exponentials = self.exponentials.pop(0)
            else:
                logits = self._logits(scaled, weight, bias, tile, grad.dtype)
                found, _, slopes = self._exponentials(logits, True)
                exponentials = (found if slopes is None else found.mul_(slopes)).to(dtype)
            if sums.states is not None:
                back -= (exponentials @ weight[tile].to(dtype)).to(grad.dtype) * weights.unsqueeze(1)
            if sums.weight is not None:
                columns = (scaled * -weights.unsqueeze(1)).to(dtype)
                _add_product(sums.weight[tile], exponentials, columns, sums.first)
            if sums.bias is not None:
                sums.bias[tile] -= scale * (weights @ exponentials.to(grad.dtype))
        own = grad if self.slope is None else grad * self.slope
        if sums.states is not None:
            back += own.unsqueeze(1) * weight[target].to(grad.dtype)
            sums.states.copy_(back * scale)
        if sums.weight is not None:
            sums.weight.index_add_(0, target, (own.unsqueeze(1) * scaled).to(sums.weight.dtype))
        if sums.bias is not None:
            sums.bias.index_add_(0, target, own * scale)

    def _scaled(self, states: Tensor) -> Tensor:
        return states if self.how.rule.scale == 1 else states * self.how.rule.scale

    @staticmethod
    def _tiles(weight: Tensor) -> list[slice]:
        return [slice(start, min(start + TILE, len(weight))) for start in range(0, len(weight), TILE)]

    def _logits(self, scaled: Tensor, weight: Tensor, bias: Tensor | None, tile: slice, wide: torch.dtype) -> Tensor:
        """(n, v) logits of a tile before the cap."""
        dtype = self.how.dtype
        logits = (scaled.to(dtype) @ weight[tile].to(dtype).T).to(wide)
        if bias is not None:
            logits += bias[tile].to(wide) * self.how.rule.scale
        cap = self.how.rule.cap
        return logits if cap is None else torch.tanh_(logits.div_(cap)).mul_(cap)

    def _exponentials(self, logits: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """exp(logits - top), written over them, top (n,), and the slope of the cap at each where they are kept."""
        cap = self.how.rule.cap
        slopes = 1 - (logits / cap) ** 2 if keep and cap is not None else None
        top = logits.amax(1)
        return logits.sub_(top.unsqueeze(1)).exp_(), top, slopes


def _add_product(into: Tensor, exponentials: Tensor, columns: Tensor, first: bool) -> None:
    """into += exponentials^T columns, or = where it is the first, in place where one kernel can."""
    if into.dtype != exponentials.dtype:
        product = (exponentials.T @ columns).to(into.dtype)
        into.copy_(product) if first else into.add_(product)
    elif first:
        torch.mm(exponentials.T, columns, out=into)
    else:
        into.addmm_(exponentials.T, columns)
