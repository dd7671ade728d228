"""Norms of the gradient of sequence log-probabilities with respect to the output embedding, without any V x D matrix.

Knows logits and states, nothing about batches, models or objectives. Legend: N response tokens, D hidden, V vocabulary.
"""

import torch
from torch import Tensor


@torch.no_grad()
def head_gradient_norms(states: Tensor, logits: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """||d log p(y|x) / dW|| of each sequence, where logits = W h.

    With r_k = e_{y_k} - p_k and G = sum_k r_k h_k^T, ||G||^2 = sum_{k,l} <r_k, r_l> <h_k, h_l>: two matrices of a
    response's length on each side (Razin et al. 2025, https://arxiv.org/abs/2410.08847, Theorem 6 with y+ = y-).
    Exact where the model neither caps nor scales its logits; for others it is the gradient before that.

    Args:
        states: (N, D) states that predict the targets, sequence after sequence.
        logits: (N, V) what they predict.
        target: (N,) response tokens.
        lengths: (S,) tokens of each sequence; they add up to N.

    Returns:
        (S,) norms, float32.
    """
    sizes = lengths.tolist()
    pieces = zip(states.split(sizes), logits.split(sizes), target.split(sizes), strict=True)
    return torch.stack([_norm(h.float(), x.float(), t) for h, x, t in pieces])


def _norm(states: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    residuals = -logits.softmax(-1)  # (n, V)
    residuals[torch.arange(len(target)), target] += 1
    squared = ((residuals @ residuals.T) * (states @ states.T)).sum()
    return squared.clamp(min=0).sqrt()
