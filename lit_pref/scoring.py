"""From a batch to the scores of its pairs under one model.

It knows nothing about objectives, references, optimizers or text. One forward pass serves both responses of every
pair, packed into one row where the model reads that. Log-probabilities come from the states that predict response
tokens alone: tile by tile, or, where a model does something unknown behind its output embedding, from logits that are
the architecture's own.
Legend: B pairs, M of which count, T columns, D hidden, V vocabulary, N response tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from objectives import PairScores, SequenceScores, TokenScores

from .batch import Layout, PreferenceBatch
from .fast_path import fast_path
from .forward import forward, predictions
from .head_gradients import head_gradient_norms
from .logit_rule import LogitRule
from .packing import first_alone
from .token_logps import token_logps

#: Response tokens whose float32 log-probabilities over the vocabulary exist at once.
TOKENS_PER_CHUNK = 1024


class Wanted(NamedTuple):
    """What to score beyond sums: fields of ``SequenceScores`` that cost something."""

    tokens: bool = False
    gradient_norms: bool = False


SUMS = Wanted()


def score(model: nn.Module, batch: PreferenceBatch, wanted: Wanted = SUMS) -> PairScores:
    """Score both responses of B pairs in one forward pass.

    Args:
        model: a transformers causal language model, possibly wrapped by peft.
        batch: B pairs.
        wanted: fields beyond sums.

    Returns:
        PairScores of the M pairs that count: log-probabilities in float32 nats whatever the precision of the model, and
        hidden sums over the same positions (from the last prompt token to the second-to-last response token), taken
        at the input of the output embedding: after the final norm, before soft-capping or scaling.

    Raises:
        ValueError: the model does not call its output embedding as a module.
    """
    path = fast_path(model, batch.target.device)
    layout = batch.layout(path.packs)
    norms = None
    if path.rule is None or wanted.gradient_norms:
        states, logits = predictions(model, layout, layout.state_index)  # (N, D), (N, V)
        logps_of_tokens = target_logps(logits, batch.target)  # (N,)
        if wanted.gradient_norms:
            norms = head_gradient_norms(states, logits, batch.target, batch.lengths)  # (2B,)
        collisions = _collisions(logits) if wanted.tokens else None
    else:
        states, logps_of_tokens, collisions = scored_states(model, layout, path.rule, wanted.tokens)
    count = 2 * batch.size
    logps = logps_of_tokens.new_zeros(count).index_add(0, batch.sequence, logps_of_tokens)  # (2B,)
    sums = logps.new_zeros(count, states.shape[-1]).index_add(0, batch.sequence, states.float())  # (2B, D)
    tokens = None if collisions is None else _token_scores(logps_of_tokens, collisions, batch)
    chosen, rejected = (
        SequenceScores(
            logps[side],
            batch.lengths[side],
            sums[side],
            None if batch.rewards is None else batch.rewards[i],
            None if tokens is None else _tokens_of(tokens, side),
            None if norms is None else norms[side],
        )
        for i, side in enumerate(counted(batch))
    )
    return PairScores(chosen, rejected)


def scored_states(
    model: nn.Module, layout: Layout, rule: LogitRule, collisions: bool = False, further: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """States (N, D), log-probabilities (N,) of the targets and, where asked for, their collisions (N,), without logits.

    It happens in the place of the output embedding, where strategies that shard weights hold this one whole.

    Args:
        model: as in ``score``.
        layout: what to read.
        rule: what the model does to the products of its output embedding.
        collisions: also give log sum_v p_v^2.
        further: (n,) flat positions of states that are given behind the others, (N + n, D), and predict nothing.
    """
    seen: list[Tensor] = []
    head: Any = model.get_output_embeddings()  # type: ignore[operator]

    def work(states: Tensor, _head: Callable[[Tensor], Tensor]) -> Tensor:
        index = layout.state_index
        seen.append(states[index if further is None else torch.cat([index, further])])
        logps, found = token_logps(seen[0][: len(index)], head.weight, head.bias, layout.target, rule, collisions)
        return torch.stack([logps] if found is None else [logps, found], -1)  # (N, 1 or 2)

    numbers, _ = forward(model, layout, work)
    return seen[0], numbers[:, 0], numbers[:, 1].detach() if collisions else None


def counted(batch: PreferenceBatch) -> tuple[slice, slice]:
    """Where the chosen and the rejected responses of the M pairs that count stand among the 2B."""
    pairs = len(batch.rows)
    return slice(0, pairs), slice(batch.size, batch.size + pairs)


class ChosenPredictions(NamedTuple):
    """What a model predicts along the chosen responses of M pairs, each token given the prompt and those before it.

    Attributes:
        first: (M, V) float32 log-probabilities of the first response token, nats.
        probs: (V,) probabilities, summed over the n positions of all chosen responses.
        logps: (V,) log-probabilities, summed over them, nats.
        positions: () n.
    """

    first: Tensor
    probs: Tensor
    logps: Tensor
    positions: Tensor


@torch.no_grad()
def chosen_predictions(
    model: nn.Module, batch: PreferenceBatch, dtype: torch.dtype = torch.float64
) -> ChosenPredictions:
    """Distributions over the vocabulary along chosen responses, in one forward pass of these alone.

    Logits of their tokens exist at once, fewer than ``score`` has of the same batch; probabilities exist of
    ``TOKENS_PER_CHUNK`` tokens at once.

    Args:
        model: as in ``score``.
        batch: B pairs, M of which count.
        dtype: of the sums.
    """
    pairs = len(batch.rows)
    if batch.packed is not None and fast_path(model, batch.target.device).packs:
        layout = batch._replace(packed=first_alone(batch.packed)).layout(True)
    else:  # the rows of chosen responses come first
        layout = batch.layout(False)
        rows = {name: getattr(layout, name)[: batch.size] for name in ("input_ids", "attention_mask", "position_ids")}
        layout = layout._replace(**rows)
    count = int((batch.sequence < pairs).sum())  # response tokens, those of chosen responses first
    logits = predictions(model, layout, layout.state_index[:count])[1]  # (n, V)
    starts = torch.cumsum(batch.lengths, 0) - batch.lengths  # (2B,) where each response starts in the flat list
    probs = logps = torch.zeros(logits.shape[-1], dtype=dtype, device=logits.device)  # (V,)
    for chunk in logits.split(TOKENS_PER_CHUNK):
        found = chunk.float().log_softmax(-1)
        logps = logps + found.sum(0, dtype=dtype)
        probs = probs + found.exp_().sum(0, dtype=dtype)
    first = logits[starts[:pairs]].float().log_softmax(-1)
    return ChosenPredictions(first, probs, logps, batch.lengths[:pairs].sum())


def target_logps(logits: Tensor, target: Tensor) -> Tensor:
    """log-probability of ``target`` (N,) under ``logits`` (N, V), float32 nats, (N,).

    Works through chunks of tokens and recomputes each in backward, so that float32 copies of the logits never
    exist for all tokens at once.
    """
    chunks = zip(logits.split(TOKENS_PER_CHUNK), target.split(TOKENS_PER_CHUNK), strict=True)
    if logits.requires_grad and len(target) > TOKENS_PER_CHUNK:
        run: Callable[[Tensor, Tensor], Tensor] = _recomputed
    else:
        run = _chunk_logps
    return torch.cat([run(chunk, tokens) for chunk, tokens in chunks])


def _chunk_logps(logits: Tensor, target: Tensor) -> Tensor:
    return logits.float().log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)


def _recomputed(logits: Tensor, target: Tensor) -> Tensor:
    return checkpoint(_chunk_logps, logits, target, use_reentrant=False, preserve_rng_state=False)


@torch.no_grad()
def _collisions(logits: Tensor) -> Tensor:
    return torch.cat([(2 * chunk.float().log_softmax(-1)).logsumexp(-1) for chunk in logits.split(TOKENS_PER_CHUNK)])


def _token_scores(token_logps: Tensor, collisions: Tensor, batch: PreferenceBatch) -> TokenScores:
    """Every response token of the batch, both sides; ``sequence`` counts to 2B."""
    starts = torch.cumsum(batch.lengths, 0) - batch.lengths  # (2B,)
    position = torch.arange(len(batch.target), device=batch.target.device) - starts[batch.sequence]
    return TokenScores(token_logps, collisions, batch.target, batch.sequence, position)


def _tokens_of(tokens: TokenScores, side: slice) -> TokenScores:
    inside = (tokens.sequence >= side.start) & (tokens.sequence < side.stop)
    kept = TokenScores(*(values[inside] for values in tokens))
    return kept._replace(sequence=kept.sequence - side.start)
