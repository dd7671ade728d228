"""Sums over the processes of a run, for the objectives that estimate one number from all pairs of a step."""

import torch
from torch import Tensor


def sum_over_processes(values: Tensor) -> Tensor:
    """The elementwise sum of detached ``values`` over all processes; their copy where there is only one."""
    total = values.detach().clone()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return total
