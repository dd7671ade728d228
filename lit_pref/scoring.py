"""From a batch to the scores of its pairs under one model: the only file that touches logits.

It knows nothing about objectives, references, optimizers or text. One forward pass serves both responses of every
pair. The model's own output embedding sees only the states that predict response tokens, and whatever the
architecture does to logits afterwards (soft-capping, scaling) stays the architecture's own code.
Legend: B pairs, M of which count, T columns, D hidden, V vocabulary, N response tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from objectives import PairScores, SequenceScores, TokenScores

from .batch import Layout, PreferenceBatch
from .head_gradients import head_gradient_norms

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
    states, logits = predictions(model, batch, batch.state_index)  # (N, D), (N, V)
    token_logps = target_logps(logits, batch.target)  # (N,)
    count = 2 * batch.size
    logps = token_logps.new_zeros(count).index_add(0, batch.sequence, token_logps)  # (2B,)
    sums = logps.new_zeros(count, states.shape[-1]).index_add(0, batch.sequence, states.float())  # (2B, D)
    norms = None
    if wanted.gradient_norms:
        norms = head_gradient_norms(states, logits, batch.target, batch.lengths)  # (2B,)
    tokens = _token_scores(token_logps, logits, batch) if wanted.tokens else None
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
    alone = batch._replace(
        **{name: getattr(batch, name)[: batch.size] for name in ("input_ids", "attention_mask", "position_ids")}
    )
    index = batch.state_index[batch.sequence < pairs]  # (n,) those of chosen responses come first
    logits = predictions(model, alone, index)[1]  # (n, V)
    starts = torch.cumsum(batch.lengths, 0) - batch.lengths  # (2B,) where each response starts in the flat list
    probs = logps = torch.zeros(logits.shape[-1], dtype=dtype, device=logits.device)  # (V,)
    for chunk in logits.split(TOKENS_PER_CHUNK):
        found = chunk.float().log_softmax(-1)
        logps = logps + found.sum(0, dtype=dtype)
        probs = probs + found.exp_().sum(0, dtype=dtype)
    first = logits[starts[:pairs]].float().log_softmax(-1)
    return ChosenPredictions(first, probs, logps, batch.lengths[:pairs].sum())


def predictions(
    model: nn.Module, batch: PreferenceBatch | Layout, state_index: Tensor, predicted: int | None = None
) -> tuple[Tensor, Tensor]:
    """States (N, D) at the flat positions ``state_index`` (N,), and the logits that the first of them predict.

    A hook before the output embedding keeps only these states. It stays inside the model's own forward, so that
    strategies that shard or gather parameters around it work as for any forward.

    Args:
        model: a transformers causal language model, possibly wrapped by peft.
        batch: what to read.
        state_index: (N,) positions in the flattened rows.
        predicted: how many states the output embedding sees, the first ones; all by default, 0 to skip its cost.
    """
    predicted = len(state_index) if predicted is None else predicted
    seen: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        states = inputs[0].flatten(0, 1)[state_index]  # (N, D)
        seen.append(states)
        return (states[:predicted].unsqueeze(0),)

    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    hook = head.register_forward_pre_hook(keep)
    try:
        logits = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).logits
    finally:
        hook.remove()
    if len(seen) != 1 or logits.shape[:2] != (1, predicted):
        raise ValueError(
            f"{type(model).__name__} does not call its output embedding once on the states of all tokens, "
            "so its response tokens cannot be scored; use a causal language model of transformers"
        )
    return seen[0], logits[0]


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


def _token_scores(token_logps: Tensor, logits: Tensor, batch: PreferenceBatch) -> TokenScores:
    """Every response token of the batch, both sides; ``sequence`` counts to 2B."""
    with torch.no_grad():
        chunks = logits.split(TOKENS_PER_CHUNK)
        collisions = torch.cat([(2 * chunk.float().log_softmax(-1)).logsumexp(-1) for chunk in chunks])
    starts = torch.cumsum(batch.lengths, 0) - batch.lengths  # (2B,)
    position = torch.arange(len(batch.target), device=batch.target.device) - starts[batch.sequence]
    return TokenScores(token_logps, collisions, batch.target, batch.sequence, position)


def _tokens_of(tokens: TokenScores, side: slice) -> TokenScores:
    inside = (tokens.sequence >= side.start) & (tokens.sequence < side.stop)
    kept = TokenScores(*(values[inside] for values in tokens))
    return kept._replace(sequence=kept.sequence - side.start)
