"""What a model's states say of many responses at once: sums, last states, log-probabilities, in few calls.

Knows models, batches and processes; nothing about measures or files. Which responses share a call depends on their
lengths alone, never on the number of processes, so that any number gives the same values.
Legend: S sequences, N response tokens, D hidden.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..batch import Layout, lay_out
from ..processes import Processes
from ..scoring import predictions, target_logps

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
        tokens_per_batch: most tokens of one call, padding included; a longer sequence has a call of its own.
        processes: among whom the calls are dealt out.
        logps: whether to pay for the output embedding.
    """
    table: Tensor | None = None  # (S, 2D + 1)
    for batch, counts in processes.deal(calls([len(p) + len(r) for p, r in sequences], tokens_per_batch)):
        layout = Layout(*(t.to(processes.device) for t in lay_out([sequences[i] for i in batch])))
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


@torch.no_grad()
def _read(model: nn.Module, layout: Layout, endings: list[int], processes: Processes, logps: bool) -> Tensor:
    """(s, 2D + 1): sums, last states and log-probabilities of the sequences of one call."""
    starts = torch.cumsum(layout.lengths, 0) - layout.lengths
    bodies = layout.lengths - torch.tensor(endings, device=layout.lengths.device)
    # One state further than the last that is summed, where a response was cut and has no ending.
    last = layout.state_index[starts] + bodies
    count = len(layout.state_index)
    with processes.arithmetic():
        states, logits = predictions(model, layout, torch.cat([layout.state_index, last]), count if logps else 0)
    states = states.to(processes.wide)
    sums = states.new_zeros(len(layout.lengths), states.shape[1]).index_add(0, layout.sequence, states[:count])
    total = sums.new_full((len(layout.lengths),), float("nan"))
    if logps:
        total = torch.zeros_like(total).index_add(
            0, layout.sequence, target_logps(logits, layout.target).to(processes.wide)
        )
    return torch.cat([sums, states[count:], total.unsqueeze(-1)], -1)
