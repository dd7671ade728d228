"""Log-probabilities of tokens from hidden states, without the logits of all of them at once.

Knows states and an output embedding; nothing of models, batches or losses. The vocabulary is worked through in tiles
(``logit_tiles``): of each, exponentials are kept up to a budget and computed again in backward beyond it.
Legend: N tokens, D hidden, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from .logit_rule import PLAIN, LogitRule
from .logit_tiles import Arithmetic, Sums, TokenChunk, wide_of

#: Tokens that are worked on at once: with them a tile has at most 4M logits.
ROWS = 1024
#: Exponentials that stay for backward, of all tiles together (64 MiB in float32).
KEPT = 1 << 24


def token_logps(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    rule: LogitRule = PLAIN,
    collisions: bool = False,
    kept: int = KEPT,
) -> tuple[Tensor, Tensor | None]:
    """log p(target) of each token, nats, differentiable by states, weight and bias; under autocast, in its precision.

    Args:
        states: (N, D) at the input of the output embedding.
        weight: (V, D).
        bias: (V,) or None.
        target: (N,) tokens.
        rule: from products to logits.
        collisions: also give log sum_v p_v^2, without gradient.
        kept: exponentials that may stay for backward.

    Returns:
        (N,) log-probabilities in float32 (float64 where states are), and (N,) collisions or None.
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
    if not torch.is_grad_enabled():
        kept = 0
    how = Arithmetic(rule, dtype, kept, collisions)
    logps, found = _TokenLogps.apply(states, weight, bias, target, how)
    return logps, found if collisions else None


class _TokenLogps(torch.autograd.Function):
    """One chunk of tokens after another, one tile of the vocabulary after another."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, how: Arithmetic
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(states.device.type, enabled=False):
            chunks, room = [], how.kept
            for start in range(0, len(states), ROWS):
                part = slice(start, start + ROWS)
                chunk = TokenChunk(states[part], weight, bias, target[part], how, room)
                room -= sum(tile.numel() for tile in chunk.exponentials)
                chunks.append(chunk)
            wide = wide_of(states)
            logps = torch.cat([states.new_zeros(0, dtype=wide), *(chunk.logps for chunk in chunks)])
            collisions = torch.cat([states.new_zeros(0, dtype=wide), *(chunk.collisions for chunk in chunks)])
        ctx.save_for_backward(states, weight, bias, target)
        ctx.chunks, ctx.how = chunks, how
        ctx.mark_non_differentiable(collisions)
        return logps, collisions

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _collisions: Tensor) -> Any:
        states, weight, bias, target = ctx.saved_tensors
        wide = wide_of(states)
        needs = ctx.needs_input_grad
        d_states = torch.empty_like(states, dtype=wide) if needs[0] else None
        # The first chunk writes all of it, which spares filling a matrix of the vocabulary's size with zeros.
        fill = torch.empty_like if ctx.chunks else torch.zeros_like
        d_weight = fill(weight, dtype=torch.promote_types(wide, weight.dtype)) if needs[1] else None
        d_bias = torch.zeros_like(bias, dtype=wide) if needs[2] and bias is not None else None
        with torch.autocast(states.device.type, enabled=False):
            for chunk, start in zip(ctx.chunks, range(0, len(states), ROWS), strict=True):
                part = slice(start, start + ROWS)
                own = None if d_states is None else d_states[part]
                sums = Sums(own, d_weight, d_bias, first=start == 0)
                chunk.backward(states[part], weight, bias, target[part], grad[part].to(wide), sums)
        return (
            None if d_states is None else d_states.to(states.dtype),
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None or bias is None else d_bias.to(bias.dtype),
            None,
            None,
        )
