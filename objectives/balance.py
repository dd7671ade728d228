"""The two weights of an objective, and modifiers that set their ratio.

With d_w = -dL/d log π(y⁺) and d_l = dL/d log π(y⁻), a step raises the chosen and lowers the rejected response where
d_w/d_l lies in [ρR, R/ρ]: R = ||g_l||/||g_w||, ρ the cosine of the gradients g of the two log-probabilities
(Yuan et al. 2024, https://arxiv.org/abs/2410.13828, Condition 2; Chen et al. 2026, "the disentanglement band",
https://arxiv.org/abs/2604.18239).
"""

from typing import Any

import torch
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, SequenceScores, require
from .modifier import Modifier
from .processes import sum_over_processes

#: Weights and norms below this are taken as this, so that ratios stay finite.
SMALLEST = 1e-12


def pair_weights(objective: Objective, policy: PairScores, reference: PairScores | None) -> tuple[Tensor, Tensor]:
    """d_w and d_l of each pair, (B,) each, detached, from autograd on the objective alone.

    An objective that reads single tokens is differentiated along a change that spreads evenly over a response's tokens.
    The objective is evaluated without training state, so running statistics do not move.
    """
    training = objective.training
    objective.eval()
    try:
        # Copies, made outside inference mode where a caller is in it: its tensors cannot take part in autograd.
        with torch.inference_mode(False), torch.enable_grad():
            policy, reference = _copied(policy), _copied(reference)
            chosen, chosen_leaf = _with_leaf(policy.chosen)
            rejected, rejected_leaf = _with_leaf(policy.rejected)
            losses = objective(policy._replace(chosen=chosen, rejected=rejected), reference).losses
            d_chosen, d_rejected = torch.autograd.grad(losses.sum(), [chosen_leaf, rejected_leaf], allow_unused=True)
    finally:
        objective.train(training)
    zero = torch.zeros_like(chosen_leaf)
    return zero if d_chosen is None else -d_chosen, zero if d_rejected is None else d_rejected


def scaled_gradient(values: Tensor, factor: Tensor) -> Tensor:
    """The same values, whose gradient is multiplied by ``factor``: κx + (1-κ)·sg(x)."""
    return factor * values + (1 - factor) * values.detach()


class BalancedGradients(Modifier):
    """Rescales the gradients of the two log-probabilities of a pair so that d_w/d_l = R; their product d_w·d_l stays.

    The step of every pair is then along g_w/||g_w|| - g_l/||g_l|| (pairwise normalised gradients, Yuan et al.
    2024). Norms are those of the output embedding's gradient, computed in the same forward pass: to first order a
    step of the output embedding never lowers the chosen response and never raises the rejected one.
    """

    needs_gradient_norms = True

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        d_chosen, d_rejected = pair_weights(self.objective, _detached(policy), reference)
        ratio = _norms(policy.rejected) / _norms(policy.chosen)  # (B,) R
        return self.inner(_balanced(policy, ratio, d_chosen, d_rejected), reference)


class DisentanglementBand(Modifier):
    """Reward calibration (Chen et al. 2026): rescales by running means of norms and weights rather than by pair.

    κ = exp(½(log R - log(d_w/d_l))) multiplies the gradient of the chosen log-probability and 1/κ that of the rejected
    one. R and d_w/d_l come from exponential moving averages over batches, which checkpoints keep.

    Args:
        objective: what is rescaled.
        decay: of the averages, from 0 (this batch alone) to below 1; the paper's code uses 0.98.
    """

    needs_gradient_norms = True
    couples_pairs = True

    def __init__(self, objective: Objective, decay: float = 0.98) -> None:
        super().__init__(objective)
        require(0 <= decay < 1, "decay", decay, "at least 0 and below 1")
        self.decay = decay
        #: Means of ||g_w||, ||g_l||, d_w, d_l; the last entry says whether there are any yet.
        self.means: Tensor
        self.register_buffer("means", torch.zeros(5))

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        d_chosen, d_rejected = pair_weights(self.objective, _detached(policy), reference)
        values = torch.stack([_norms(policy.chosen), _norms(policy.rejected), d_chosen, d_rejected])  # (4, B)
        means = self._updated(values.float())
        ratio = (means[1] / means[0].clamp(min=SMALLEST)).expand_as(d_chosen)
        return self.inner(_balanced(policy, ratio, means[2].expand_as(ratio), means[3].expand_as(ratio)), reference)

    def _updated(self, values: Tensor) -> Tensor:
        """The averages with these pairs, of all processes, in them; kept in training only."""
        count = values.new_tensor([values.shape[1]])
        total = sum_over_processes(torch.cat([values.sum(1), count]))
        seen = total[:4] / total[4].clamp(min=1)
        decay = torch.where(self.means[4] > 0, self.decay, 0.0)
        means = decay * self.means[:4] + (1 - decay) * seen
        if self.training:
            self.means.copy_(torch.cat([means, means.new_ones(1)]))
        return means


def _balanced(policy: PairScores, ratio: Tensor, d_chosen: Tensor, d_rejected: Tensor) -> PairScores:
    """Straight-through factors κ and 1/κ with κ² = R·d_l/d_w."""
    factor = (ratio * d_rejected.clamp(min=SMALLEST) / d_chosen.clamp(min=SMALLEST)).sqrt()  # (B,) κ
    # Where a weight vanishes there is nothing to balance.
    factor = torch.where((d_chosen > SMALLEST) & (d_rejected > SMALLEST), factor, 1.0)
    chosen = policy.chosen._replace(logps=scaled_gradient(policy.chosen.logps, factor))
    rejected = policy.rejected._replace(logps=scaled_gradient(policy.rejected.logps, 1 / factor))
    return policy._replace(chosen=chosen, rejected=rejected)


def _norms(scores: SequenceScores) -> Tensor:
    if scores.gradient_norms is None:
        raise ValueError("this objective reads gradient norms, and these scores hold none (needs_gradient_norms)")
    return scores.gradient_norms.clamp(min=SMALLEST)


def _detached(policy: PairScores) -> PairScores:
    chosen, rejected = (side._replace(logps=side.logps.detach()) for side in (policy.chosen, policy.rejected))
    return policy._replace(chosen=chosen, rejected=rejected)


def _with_leaf(scores: SequenceScores) -> tuple[SequenceScores, Tensor]:
    """The scores as a function of a fresh (B,) leaf, their sums."""
    leaf = scores.logps.detach().clone().requires_grad_()
    if scores.tokens is None:
        return scores._replace(logps=leaf), leaf
    tokens = scores.tokens
    shift = ((leaf - leaf.detach()) / scores.lengths)[tokens.sequence]  # (N,) zeros that carry the gradient
    return scores._replace(logps=leaf, tokens=tokens._replace(logps=tokens.logps.detach() + shift)), leaf


def _copied(value: Any) -> Any:
    """Scores whose tensors are copies without history."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return type(value)(*map(_copied, value)) if isinstance(value, tuple) else value
