"""What a model's states say of many responses at once: sums, last states, log-probabilities, in few calls.

Knows models, batches and processes; nothing about measures or files. Which responses share a call depends on their
lengths alone, never on the number of processes, so that any number gives the same values.
Legend: S sequences, N response tokens, D hidden.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..batch import Layout, lay_out, lay_out_packed
from ..fast_path import fast_path
from ..forward import predictions
from ..packing import by_prompt
from ..processes import Processes
from ..scoring import scored_states, target_logps
from ..token_batches import neighbours

Ids = Sequence[int]


class States(NamedTuple):
    """What is known of S responses, each behind its prompt.

    Attributes:
        sums: (S, D) sum of the states that predict the response, float64 (float32 where the device has no float64).
        last: (S, D) state at the last token of the response, its ending not counted.
        logps: (S,) log-probability of the response, nats; NaN where the output embedding was skipped.
    """

    sums: Tensor
    last: Tensor
    logps: Tensor


def states_of(
    model: nn.Module,
    sequences: Sequence[tuple[Ids, Ids]],
    endings: Sequence[int],
    tokens_per_batch: int,
    processes: Processes,
    logps: bool = False,
) -> States:
    """Read S responses and return what is known of them, on every process.

    Args:
        model: a causal language model.
        sequences: S pairs of prompt and response.
        endings: (S,) how many tokens at the end of each response only end it.
        tokens_per_batch: most tokens of one call, padding included where the model does not read packed rows; a longer
            sequence has a call of its own.
        processes: among whom the calls are dealt out.
        logps: whether to pay for the output embedding.
    """
    table: Tensor | None = None  # (S, 2D + 1)
    packs = fast_path(model, processes.device).packs
    lengths = [len(prompt) + len(response) for prompt, response in sequences]
    shared = packed_calls(sequences, tokens_per_batch) if packs else calls(lengths, tokens_per_batch)
    for batch, counts in processes.deal(shared):
        layout = (lay_out_packed if packs else lay_out)([sequences[i] for i in batch]).to(processes.device)
        values = _read(model, layout, [endings[i] for i in batch], processes, logps)  # (s, 2D + 1)
        if table is None:
            table = values.new_zeros(len(sequences), values.shape[1])
        if counts:
            table[torch.tensor(batch, device=processes.device)] = values
    assert table is not None, "there is no sequence to read"
    table = processes.total(table)
    width = table.shape[1] // 2
    return States(table[:, :width], table[:, width : 2 * width], table[:, -1])


def calls(lengths: Sequence[int], budget: int, rows: int = 1) -> list[list[int]]:
    """Which items share a call: neighbours in length, the longest first, as many as the budget holds once padded.

    Args:
        lengths: tokens of each item's longest row.
        budget: most tokens of a call, padding included.
        rows: rows that an item takes up.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    found: list[list[int]] = []
    for i in order:
        if found and (len(found[-1]) + 1) * rows * lengths[found[-1][0]] <= budget:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def packed_calls(sequences: Sequence[tuple[Ids, Ids]], budget: int) -> list[list[int]]:
    """Which sequences share a packed call: all with one prompt together, as many prompts as the budget holds.

    Args:
        sequences: pairs of prompt and response.
        budget: most tokens of a call, each prompt counted once.
    """
    groups = by_prompt(sequences)
    tokens = [len(sequences[own[0]][0]) + sum(len(sequences[i][1]) for i in own) for own in groups]
    return [[i for group in run for i in groups[group]] for run in neighbours(tokens, budget)]


@torch.no_grad()
def _read(model: nn.Module, layout: Layout, endings: list[int], processes: Processes, logps: bool) -> Tensor:
    """(s, 2D + 1): sums, last states and log-probabilities of the sequences of one call."""
    starts = torch.cumsum(layout.lengths, 0) - layout.lengths
    bodies = layout.lengths - torch.tensor(endings, device=layout.lengths.device)
    assert layout.first_index is not None
    # The last token of the body; of an empty one, the last token of the prompt.
    last = torch.where(bodies > 0, layout.first_index + bodies - 1, layout.state_index[starts])
    rule = fast_path(model, processes.device).rule
    with processes.arithmetic():
        if logps and rule is not None:
            states, scored, _ = scored_states(model, layout, rule, further=last)
        else:
            index = torch.cat([layout.state_index, last])
            states, logits = predictions(model, layout, index, len(layout.state_index) if logps else 0)
            scored = target_logps(logits, layout.target) if logps else logits[:0, 0]
    states = states.to(processes.wide)
    count = len(layout.state_index)
    sums = states.new_zeros(len(layout.lengths), states.shape[1]).index_add(0, layout.sequence, states[:count])
    total = sums.new_full((len(layout.lengths),), float("nan"))
    if logps:
        total = torch.zeros_like(total).index_add(0, layout.sequence, scored.to(processes.wide))
    return torch.cat([sums, states[count:], total.unsqueeze(-1)], -1)
