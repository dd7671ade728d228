"""Responses in token ids, and how processes tell each other theirs. Knows nothing about models, draws or texts."""

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import torch

from .processes import Processes

Key = tuple[int, int]


class Generated(NamedTuple):
    """A response.

    Attributes:
        prompt: place of its prompt among the prompts.
        sample: its number among the responses to this prompt.
        ids: its tokens, without the prompt, with the stop token that ended it.
        ended: whether it ended by itself; otherwise it was cut.
    """

    prompt: int
    sample: int
    ids: list[int]
    ended: bool

    @property
    def key(self) -> Key:
        """What no other response has."""
        return self.prompt, self.sample


def owners(done: Container[Key], keys: Sequence[Key], processes: Processes) -> dict[Key, int | None]:
    """Who answers for a response that exists: the first process that has it; None where nobody has.

    Processes may see different files, so what exists is asked of all of them.
    """
    table = torch.zeros(processes.size, len(keys), dtype=torch.int64, device=processes.device)
    table[processes.rank] = torch.tensor([key in done for key in keys], dtype=torch.int64)
    has = processes.total(table).cpu()
    first = has.argmax(0).tolist()
    return {key: first[i] if has[first[i], i] else None for i, key in enumerate(keys)}


def shared(results: Mapping[Key, Generated], keys: Sequence[Key], processes: Processes) -> list[Generated]:
    """What each process has, on all of them, in the order of ``keys``.

    First lengths go round, then all tokens in one long row, each response in its own place.
    """
    sizes = torch.zeros(len(keys), 2, dtype=torch.int64)
    for place, key in enumerate(keys):
        if key in results:
            sizes[place] = torch.tensor([len(results[key].ids), results[key].ended])
    sizes = processes.total(sizes.to(processes.device)).cpu()
    ends = sizes[:, 0].cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    row = torch.zeros(ends[-1] if ends else 0, dtype=torch.int64)
    for place, key in enumerate(keys):
        if key in results:
            row[starts[place] : ends[place]] = torch.tensor(results[key].ids)
    ids = processes.total(row.to(processes.device)).tolist()
    return [Generated(*key, ids[starts[i] : ends[i]], bool(sizes[i, 1])) for i, key in enumerate(keys)]
