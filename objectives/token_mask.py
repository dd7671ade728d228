"""Objectives on some of the response tokens: those in which the two responses of a pair differ.

Tokens that both responses share entangle their gradients (Yuan et al. 2024, "A Common Pitfall of Margin-based Language
Model Alignment: Gradient Entanglement", https://arxiv.org/abs/2410.13828).
"""

from typing import Literal

import torch
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, SequenceScores, TokenScores, require
from .modifier import Modifier, tokens_of


def shared_prefix(chosen: TokenScores, rejected: TokenScores, pairs: int) -> Tensor:
    """(B,) number of tokens that both responses of each pair begin with."""
    lengths = chosen.ids.new_zeros(pairs)
    for i in range(pairs):
        lengths[i] = _prefix(_ids(chosen, i), _ids(rejected, i))
    return lengths


def shared_suffix(chosen: TokenScores, rejected: TokenScores, pairs: int, prefix: Tensor) -> Tensor:
    """(B,) number of tokens behind the shared prefix that both responses end with."""
    lengths = chosen.ids.new_zeros(pairs)
    for i in range(pairs):
        a, b = (_ids(side, i)[prefix[i] :].flip(0) for side in (chosen, rejected))
        lengths[i] = _prefix(a, b)
    return lengths


def masked(scores: SequenceScores, keep: Tensor) -> SequenceScores:
    """Scores over the tokens marked True in ``keep`` (N,): sums and lengths are those of the kept tokens."""
    tokens = tokens_of(scores)
    kept = TokenScores(*(values[keep] for values in tokens))
    logps = torch.zeros_like(scores.logps).index_add(0, kept.sequence, kept.logps)
    lengths = torch.zeros_like(scores.lengths).index_add(0, kept.sequence, torch.ones_like(kept.sequence))
    # A response that is all shared keeps length 1: its sum is 0, and so is then its mean.
    return scores._replace(logps=logps, lengths=lengths.clamp(min=1), tokens=kept)


class TokenMask(Modifier):
    """Lets an objective see only the tokens in which a pair's responses differ.

    Args:
        objective: what sees the remaining tokens.
        drop: "prefix" leaves out the tokens that both responses begin with; "prefix_and_suffix" also those
            that both end with, an end-of-sequence token among them.
    """

    needs_tokens = True

    def __init__(self, objective: Objective, drop: Literal["prefix", "prefix_and_suffix"] = "prefix") -> None:
        super().__init__(objective)
        require(drop in ("prefix", "prefix_and_suffix"), "drop", drop, "'prefix' or 'prefix_and_suffix'")
        self.drop = drop

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = tokens_of(policy.chosen), tokens_of(policy.rejected)
        pairs = len(policy.chosen.logps)
        first = shared_prefix(chosen, rejected, pairs)
        last = torch.zeros_like(first)
        if self.drop == "prefix_and_suffix":
            last = shared_suffix(chosen, rejected, pairs, first)
        reference = None if reference is None else self._masked(reference, first, last)
        return self.inner(self._masked(policy, first, last), reference)

    def _masked(self, scores: PairScores, first: Tensor, last: Tensor) -> PairScores:
        sides = []
        for side in (scores.chosen, scores.rejected):
            tokens = tokens_of(side)
            at = tokens.sequence
            keep = (tokens.position >= first[at]) & (tokens.position < (side.lengths - last)[at])
            sides.append(masked(side, keep))
        return scores._replace(chosen=sides[0], rejected=sides[1])


def _ids(tokens: TokenScores, pair: int) -> Tensor:
    return tokens.ids[tokens.sequence == pair]


def _prefix(a: Tensor, b: Tensor) -> Tensor:
    """() length of the common prefix of two id sequences."""
    shorter = min(len(a), len(b))
    return (a[:shorter] == b[:shorter]).long().cumprod(0).sum()
