"""The vocabulary that crosses the floors: scores go into an objective, losses come out.

This file knows nothing about models, logits, batches, text or configuration, and imports torch alone.
Legend of shapes: B pairs, D hidden.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class TokenScores(NamedTuple):
    """The response tokens of one side of B pairs, one after the other; N of them in all.

    Attributes:
        logps: (N,) float32, nats; log p(y_t | x, y_<t).
        log_collisions: (N,) float32, nats; log of the sum over the vocabulary of p(z | x, y_<t)^2, detached.
        ids: (N,) int64; the tokens themselves.
        sequence: (N,) int64; which of the B responses a token belongs to.
        position: (N,) int64; place of the token in its response, from 0.
    """

    logps: Tensor
    log_collisions: Tensor
    ids: Tensor
    sequence: Tensor
    position: Tensor


class SequenceScores(NamedTuple):
    """What is known of one side (chosen or rejected) of B pairs under one model.

    Attributes:
        logps: (B,) float32, nats; sum over the response's tokens of log p(y_t | x, y_<t).
        lengths: (B,) int64; response tokens counted, end-of-sequence included where it is part of the response.
        hidden_sums: (B, D) float32; sum of the states whose logits predict the response (from the last prompt
            token to the second-to-last response token), taken at the input of the output embedding; None where
            the scores come from a file.
        rewards: (B,) float32; rewards that the data annotate, or None where they have none.
        tokens: what is known of each response token, where an objective or callback asks for it (``needs_tokens``).
        gradient_norms: (B,) float32; norm of the gradient of ``logps`` with respect to the output embedding, detached,
            where an objective or callback asks for it (``needs_gradient_norms``).
    """

    logps: Tensor
    lengths: Tensor
    hidden_sums: Tensor | None = None
    rewards: Tensor | None = None
    tokens: TokenScores | None = None
    gradient_norms: Tensor | None = None

    @property
    def mean_logps(self) -> Tensor:
        """(B,) log-probability per response token, nats."""
        return self.logps / self.lengths


class PairScores(NamedTuple):
    """Both sides of B pairs under one model.

    Attributes:
        chosen: the preferred responses.
        rejected: the others.
        mismatched: the same prompts with the two responses of other pairs, detached, where an objective asks for
            them (``needs_mismatched``); (M,) values each, M the pairs that count.
    """

    chosen: SequenceScores
    rejected: SequenceScores
    mismatched: PairScores | None = None


class ObjectiveOutput(NamedTuple):
    """What an objective makes of B pairs; nothing is reduced, whoever logs or steps reduces.

    Attributes:
        losses: (B,) one loss a pair.
        chosen_rewards: (B,) what the objective takes as the reward of the chosen response, detached.
        rejected_rewards: (B,) the same of the rejected response, detached.
    """

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


class Objective(nn.Module):
    """A function from the scores of B pairs to B losses.

    To add one, subclass and define ``forward``; the subclass is then a name for ``--model.objective``.

    Attributes:
        needs_reference: whether ``forward`` reads the reference's scores; False: it is handed None or ignores them.
        needs_rewards: whether ``forward`` reads ``SequenceScores.rewards``; the data are refused where it is missing.
        needs_tokens: whether ``forward`` reads ``SequenceScores.tokens``.
        needs_gradient_norms: whether ``forward`` reads ``SequenceScores.gradient_norms`` of the policy.
        needs_mismatched: whether ``forward`` reads ``PairScores.mismatched``.
        couples_pairs: whether the loss of a pair depends on the other pairs of its batch, so that batches of the same
            step that are made otherwise would change what is trained.
        progress: share of the optimizer steps taken so far, from 0 to 1; the module sets it before each step.
    """

    needs_reference: bool = True
    needs_rewards: bool = False
    needs_tokens: bool = False
    needs_gradient_norms: bool = False
    needs_mismatched: bool = False
    couples_pairs: bool = False
    progress: float = 0.0

    def unusable_rewards(self, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, str]:
        """Which pairs of the data cannot be used because of their rewards, and the rule that they break.

        Args:
            chosen: (n,) annotated rewards of the chosen responses.
            rejected: (n,) of the rejected ones.

        Returns:
            (n,) bool, True where a pair is to be refused before training, and the rule in words.
        """
        return torch.zeros_like(chosen, dtype=torch.bool), ""

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        """Return the losses and implicit rewards of B pairs, shape (B,) each."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(policy, reference)")


def log_ratios(policy: PairScores, reference: PairScores | None) -> tuple[Tensor, Tensor]:
    """log pi(y|x) - log pi_ref(y|x) of both sides, (B,) each, nats; raises ValueError without a reference."""
    if reference is None:
        raise ValueError(
            "this objective compares the policy with a reference, but no reference scores were given: "
            "set model.reference, or choose a reference-free objective such as SimPO"
        )
    return policy.chosen.logps - reference.chosen.logps, policy.rejected.logps - reference.rejected.logps


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Refuse a bad number of an objective in one sentence that names the key and the range."""
    if not condition:
        raise ValueError(f"{key} is {value!r}, but must be {allowed}")
