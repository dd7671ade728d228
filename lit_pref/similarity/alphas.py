"""The exact score behind CHES: its coefficients, from the model's own predictions.

Knows states and logits of one pair; nothing about batches. Legend: n, m response tokens, D hidden, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor

#: Entries of a residual matrix (tokens x vocabulary) that exist at once, for each side.
ENTRIES_PER_TILE = 2**22


class AlphaCHES(NamedTuple):
    """What the coefficients say of one pair.

    Attributes:
        score: () the alpha-weighted CHES.
        positive: () share of all coefficients, those between the responses and those within the chosen one, above 0.
    """

    score: Tensor
    positive: Tensor


class Predictions(NamedTuple):
    """One response under a model.

    Attributes:
        states: (n, D) states that predict its tokens.
        logits: (n, V) what they predict.
        target: (n,) its tokens.
    """

    states: Tensor
    logits: Tensor
    target: Tensor


@torch.no_grad()
def alpha_ches(chosen: Predictions, rejected: Predictions) -> AlphaCHES:
    """Σ α⁻ <h⁺, h⁻> - Σ α⁺ <h⁺, h⁺>, CHES with its coefficients in place.

    With r_k = e_{y_k} - p_k, α⁻ = <r⁺_k, r⁻_k'> and α⁺ = <r⁺_k, r⁺_k'> (Razin et al. 2025,
    https://arxiv.org/abs/2410.08847, Theorem 6). It equals <g⁺, g⁻> - ||g⁺||², g the gradient of a response's
    log-probability with respect to an untied output embedding; CHES is the case of all α = 1. Only matrices of
    response length by response length, and tiles of the residuals, are ever held.

    Args:
        chosen: the preferred response under the model.
        rejected: the other one.
    """
    across, within = residual_products(chosen, rejected)  # (n, m), (n, n)
    states, other = chosen.states.to(across), rejected.states.to(across)
    score = (across * (states @ other.T)).sum() - (within * (states @ states.T)).sum()
    coefficients = torch.cat([across.flatten(), within.flatten()])
    return AlphaCHES(score, (coefficients > 0).double().mean())


def residual_products(chosen: Predictions, rejected: Predictions) -> tuple[Tensor, Tensor]:
    """α⁻ (n, m) and α⁺ (n, n), float64, each coefficient from -2 to 2; works through tiles of the vocabulary."""
    vocabulary = chosen.logits.shape[-1]
    width = max(1, ENTRIES_PER_TILE // max(len(chosen.target), len(rejected.target), 1))
    norms = [_norms(p.logits) for p in (chosen, rejected)]  # (n, 1), (m, 1)
    across = within = torch.zeros((), dtype=torch.float64, device=chosen.states.device)
    for start in range(0, vocabulary, width):
        tiles = [_residuals(p, norm, start, width) for p, norm in zip((chosen, rejected), norms, strict=True)]
        across = across + tiles[0] @ tiles[1].T
        within = within + tiles[0] @ tiles[0].T
    return across, within


def _norms(logits: Tensor) -> Tensor:
    """(n, 1) log of the sum of exponentials, float64; no float64 copy of all logits exists."""
    rows = max(1, ENTRIES_PER_TILE // logits.shape[-1])
    return torch.cat([part.double().logsumexp(-1, keepdim=True) for part in logits.split(rows)])


def _residuals(side: Predictions, norm: Tensor, start: int, width: int) -> Tensor:
    """(n, tile) columns of e_y - p from ``start`` on, float64."""
    tile = -(side.logits[:, start : start + width].double() - norm).exp()
    inside = (side.target >= start) & (side.target < start + tile.shape[1])
    tile[inside.nonzero().squeeze(-1), side.target[inside] - start] += 1
    return tile
