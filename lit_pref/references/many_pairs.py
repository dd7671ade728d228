"""Log-probabilities of many pairs under a reference, and under the policy as training found it.

Knows references, batches and processes; nothing about trainers or files. A reference that has a model of its own is
asked in the very calls that measure the policy: the same weights give the same numbers, to the last bit. Which pairs
share a call depends on their lengths alone, never on the number of processes. Legend: n pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from objectives import PairScores

from ..batch import Pair, collate
from ..console import counting
from ..processes import ALONE, Processes
from ..similarity.measuring import Measuring
from ..similarity.states import calls
from ..similarity.windows import measure_all
from .base import Reference

NAME = "Scoring pairs with the reference"


class Zeros(NamedTuple):
    """What the log-probabilities of n pairs are compared with; None where there is no reference.

    Attributes:
        reference: (n, 2) float64, nats; chosen and rejected responses under the reference.
        initial: (n, 2) the same under the policy as training found it.
    """

    reference: Tensor | None
    initial: Tensor | None


def score_pairs(
    reference: Reference,
    policy: nn.Module,
    pairs: Sequence[Pair],
    positions: Sequence[int],
    tokens_per_batch: int,
    processes: Processes = ALONE,
) -> Zeros:
    """Score the pairs at some positions, on every process.

    Args:
        reference: ready to score.
        policy: the model that is trained.
        pairs: the pairs of a source.
        positions: n of them.
        tokens_per_batch: most tokens of one model call, padding included.
        processes: among whom the calls are dealt out.
    """
    measuring = Measuring((), tokens_per_batch=tokens_per_batch, logps=True)

    def ask(initial: bool) -> Tensor | None:
        with reference.model_of(policy, initial) as model:
            if model is None:
                return None
            found = measure_all(model, pairs, positions, measuring, processes, NAME)
        return torch.stack([found["chosen_logps"], found["rejected_logps"]], -1)

    logps = ask(initial=False)
    if logps is None:
        return _score_batches(reference, policy, pairs, positions, tokens_per_batch, processes)
    return Zeros(logps, ask(initial=True) if reference.moves else logps)


@torch.no_grad()
def _score_batches(
    reference: Reference,
    policy: nn.Module,
    pairs: Sequence[Pair],
    positions: Sequence[int],
    tokens_per_batch: int,
    processes: Processes,
) -> Zeros:
    """The same of a reference without a model to ask, by its ``score``."""
    lengths = [_longest(pairs[p]) for p in positions]
    table = torch.zeros(len(positions), 4, dtype=processes.wide, device=processes.device)
    dealt = processes.deal(calls(lengths, tokens_per_batch, rows=2))
    with counting(NAME, sum(len(places) for places, _ in dealt)) as advance:
        for places, counts in dealt:
            batch = move_data_to_device(collate([pairs[positions[i]] for i in places]), processes.device)
            with processes.arithmetic():
                scores = reference.score(policy, batch)
                initial = reference.initial(policy, batch, scores)
            if scores is None or initial is None:
                return Zeros(None, None)  # on every process alike
            if counts:
                table[torch.tensor(places, device=processes.device)] = torch.cat(
                    [_sums(scores), _sums(initial)], -1
                ).to(table)
            advance(len(places))
    table = processes.total(table).cpu().double()
    return Zeros(table[:, :2], table[:, 2:])


def _longest(pair: Pair) -> int:
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def _sums(scores: PairScores) -> Tensor:
    return torch.stack([scores.chosen.logps, scores.rejected.logps], -1)  # (s, 2)
