"""Which tokens gain mass, as the output embedding tells before training. Knows embeddings and targets; calls no model.

Razin et al., ICLR 2025, https://arxiv.org/abs/2410.08847, Theorem 5: of one-token responses y+ and y- to a prompt, the
log-probability of any other token z changes in proportion to <W_z, W_y+ - W_y-> + c, and c is the same for all z. Of
longer responses this is one term among others (Theorem 7), that of the first tokens. W is the output embedding.
Legend: B pairs, M of which count, N response tokens, V vocabulary, D hidden.
"""

import torch
from torch import Tensor

from .batch import PreferenceBatch

#: Tokens whose embeddings exist in float32 at once.
ROWS_PER_CHUNK = 2**14


def contrasts(batch: PreferenceBatch, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """How often tokens stand on the side of chosen rather than rejected responses, summed over M pairs, (2, V).

    The first row counts first response tokens, +1 for chosen and -1 for rejected. The second counts every response
    token, each with one over the tokens of its response. So a row times W is the sum over pairs of W_y+ - W_y-, y the
    first token, or the mean embedding of the response.

    Args:
        batch: B pairs.
        size: V.
        dtype: of the result.
    """
    pairs, device = len(batch.rows), batch.target.device
    sign = torch.zeros(2 * batch.size, dtype=dtype, device=device)  # (2B,), 0 for pairs that only fill up
    sign[:pairs] = 1
    sign[batch.size : batch.size + pairs] = -1
    starts = torch.cumsum(batch.lengths, 0) - batch.lengths  # (2B,) where each response starts in the flat list
    share = (sign / batch.lengths)[batch.sequence]  # (N,)
    first, every = torch.zeros(2, size, dtype=dtype, device=device)
    return torch.stack([first.index_add(0, batch.target[starts], sign), every.index_add(0, batch.target, share)])


@torch.no_grad()
def predicted_gains(weight: Tensor, contrast: Tensor) -> Tensor:
    """<W_z, sum_y contrast_y W_y> of every token z, (V,) float32.

    Args:
        weight: (V, D) output embedding.
        contrast: (V,) a row of ``contrasts``, over the number of pairs.
    """
    contrast = contrast.to(weight.device, torch.float32)
    pieces = zip(contrast.split(ROWS_PER_CHUNK), weight.split(ROWS_PER_CHUNK), strict=True)
    direction = torch.stack([some @ rows.float() for some, rows in pieces]).sum(0)  # (D,)
    return torch.cat([rows.float() @ direction for rows in weight.split(ROWS_PER_CHUNK)])
