"""Sums over the examples of one validation that tell where probability mass lies. Knows no callback and no file.

All sums are one flat tensor, so that batches add up and processes reduce once. Legend: M pairs, V vocabulary.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_pref.batch import PreferenceBatch
from lit_pref.scoring import chosen_predictions
from lit_pref.token_geometry import contrasts
from lit_pref.token_groups import PARTS, mass_parts

#: Vectors over the vocabulary in the flat tensor, before the parts and two counts.
VECTORS = 6


class MassMeans(NamedTuple):
    """Means over validation, float32.

    Attributes:
        first: (V,) probabilities of the first response token, over prompts.
        first_logps: (V,) log-probabilities of it, nats.
        overall: (V,) probabilities over all positions of chosen responses.
        overall_logps: (V,) log-probabilities over them, nats.
        contrast: (2, V) of ``lit_pref.token_geometry.contrasts``, over pairs.
        parts: (5,) mass on the parts of ``lit_pref.token_groups.PARTS``, over prompts.
        positions: how many positions.
        prompts: how many prompts.
    """

    first: Tensor
    first_logps: Tensor
    overall: Tensor
    overall_logps: Tensor
    contrast: Tensor
    parts: Tensor
    positions: int
    prompts: int


def mass_sums(model: nn.Module, batch: PreferenceBatch, groups: Mapping[int, int], dtype: torch.dtype) -> Tensor:
    """Sums over the M pairs of a batch, (6 V + 7,); the last entry is M. One forward pass of chosen responses.

    Args:
        model: the policy.
        batch: pairs.
        groups: token -> number of its group, as ``lit_pref.token_groups.grouped_tokens`` gives it.
        dtype: of the sums.
    """
    found = chosen_predictions(model, batch, dtype)
    size, pairs = found.first.shape[-1], len(batch.rows)
    starts = torch.cumsum(batch.lengths, 0) - batch.lengths  # (2B,) where each response starts in the flat list
    chosen, rejected = batch.target[starts[:pairs]], batch.target[starts[batch.size : batch.size + pairs]]
    probs = found.first.exp()
    parts = mass_parts(probs, chosen, rejected, groups)  # (M, 5)
    first = [values.sum(0, dtype=dtype) for values in (probs, found.first)]
    counts = torch.stack([found.positions, torch.full_like(found.positions, pairs)]).to(dtype)
    weights = contrasts(batch, size, dtype).flatten()
    return torch.cat([*first, found.probs, found.logps, weights, parts.sum(0, dtype=dtype), counts])


def mass_means(total: Tensor) -> MassMeans:
    """From sums over all pairs, on the CPU.

    Args:
        total: (6 V + 7,) of ``mass_sums``, added up.
    """
    size = (len(total) - len(PARTS) - 2) // VECTORS
    *vectors, parts, counts = total.cpu().split([size] * VECTORS + [len(PARTS), 2])
    positions, prompts = counts
    first, first_logps, overall, overall_logps, *contrast = vectors
    return MassMeans(
        (first / prompts).float(),
        (first_logps / prompts).float(),
        (overall / positions).float(),
        (overall_logps / positions).float(),
        (torch.stack(contrast) / prompts).float(),
        (parts / prompts).float(),
        int(positions),
        int(prompts),
    )
