"""Responses of a model to many prompts. Knows models and processes; nothing about texts, files or judges.

Rows that have ended make room for waiting ones, so a batch is nearly always full and ragged lengths cost little.
What is drawn for a response depends on its own distribution, prompt number, sample and step (see ``drawing``), never
on batch size, neighbours or number of processes. What is left is rounding, since calls of other shapes round logits
otherwise. In float32 that changes about one token in a million, in bfloat16 about one in a hundred.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .console import counting
from .decoding import Row, reader
from .drawing import Sampling, choose, key
from .errors import ConfigError, PrefError
from .evaluating import evaluating
from .generated import Generated, owners, shared
from .processes import ALONE, Processes

#: Waiting rows join when this share of a batch is free: reading prompts is a call of its own, and pays for several.
REFILL = 1 / 4
#: Where calls are collective: how many there are between two questions whether any process still has work.
CALLS_BETWEEN_QUESTIONS = 8


Sink = Callable[[list[Generated]], None]


def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    stop_tokens: Collection[int],
    processes: Processes = ALONE,
    sink: Sink | None = None,
    numbers: Sequence[int] | None = None,
    done: Collection[Generated] = (),
    collective: bool = False,
) -> list[Generated]:
    """Write ``sampling.samples`` responses to each prompt, and return all of them on every process.

    Args:
        model: a transformers causal language model, possibly wrapped by peft; its modes are as before afterwards.
        prompts: token ids; at least one each.
        sampling: how to draw.
        stop_tokens: tokens that end a response.
        processes: among whom the responses are dealt out.
        sink: called with responses as they are finished, on the process that wrote them.
        numbers: the names of the prompts in draws; their places by default.
        done: responses that exist already, on any process; they are returned and not written again.
        collective: whether a call of the model waits for the other processes, as where weights are sharded (ZeRO-3,
            FSDP). All processes then make equally many calls.

    Returns:
        Responses by prompt, then by sample.

    Raises:
        ConfigError: a prompt is empty, or leaves no room for a response.
        PrefError: the model's logits are not finite.
    """
    numbers = range(len(prompts)) if numbers is None else numbers
    _check(model, prompts, sampling)
    keys = [(i, sample) for i in range(len(prompts)) for sample in range(sampling.samples)]
    owner = owners({response.key for response in done}, keys, processes)
    missing = sorted((k for k in keys if owner[k] is None), key=lambda k: (-len(prompts[k[0]]), k))
    results = {response.key: response for response in done if owner.get(response.key) == processes.rank}
    rows = [Row(i, sample, prompts[i]) for i, sample in missing[processes.rank :: processes.size]]
    writing = _Writing(model, rows, sampling, frozenset(stop_tokens), numbers, processes)
    with evaluating(model), torch.no_grad(), processes.arithmetic(), _progress(processes, len(rows)) as advance:
        for finished in _turns(writing, processes, collective):
            results |= {response.key: response for response in finished}
            if sink is not None and finished:
                sink(finished)
            advance(len(finished))
    return shared(results, keys, processes)


class _Writing:
    """The rows of one process: those that wait, and those that are being written."""

    def __init__(
        self,
        model: nn.Module,
        rows: Sequence[Row],
        sampling: Sampling,
        stop: frozenset[int],
        numbers: Sequence[int],
        processes: Processes,
    ) -> None:
        self.model, self.sampling, self.stop, self.numbers = model, sampling, stop, numbers
        self.device, self.wide = processes.device, processes.wide
        self.reader = reader(model, processes.device)
        self.waiting = deque(rows)
        self.active: list[Row] = []

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.active)

    def turn(self) -> list[Generated]:
        """One call of the model; the responses that are finished by it."""
        free = self.sampling.batch_size - len(self.active)
        if self.waiting and (not self.active or free >= min(len(self.waiting), self.sampling.batch_size * REFILL)):
            rows = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
            self.active += rows
            logits = self.reader.admit(rows)
        else:
            rows = self.active
            logits = self.reader.step(rows)
        self._append(rows, logits)
        ended = [row.new[-1] in self.stop for row in self.active]
        longest = self.sampling.max_new_tokens
        over = [end or len(row.new) == longest for row, end in zip(self.active, ended, strict=True)]
        if not any(over):
            return []
        rows_ended = zip(self.active, ended, over, strict=True)
        finished = [Generated(row.index, row.sample, row.new, end) for row, end, is_over in rows_ended if is_over]
        places = [place for place, is_over in enumerate(over) if not is_over]
        self.active = [self.active[place] for place in places]
        self.reader.keep(places, self.active)
        return finished

    def idle(self) -> None:
        """A call that only keeps the other processes company."""
        self.model(input_ids=torch.zeros(1, 1, dtype=torch.int64, device=self.device), use_cache=False)

    def _append(self, rows: Sequence[Row], logits: Tensor) -> None:
        keys = [key(self.sampling.seed, self.numbers[row.index], row.sample, len(row.new)) for row in rows]
        for row, token in zip(rows, choose(logits, keys, self.sampling, self.wide).tolist(), strict=True):
            if token < 0:
                raise PrefError(
                    f"the model's logits behind prompt {self.numbers[row.index]} are not finite numbers, "
                    "so no token can be drawn.\n"
                    "  Fix: look for NaN among its weights; in float16, generate in float32 or bfloat16."
                )
            row.new.append(token)


def _turns(writing: _Writing, processes: Processes, collective: bool) -> Iterator[list[Generated]]:
    """Call after call until all work is done: one's own, or where calls are collective that of all processes."""
    if processes.size == 1 or not collective:
        while writing.busy:
            yield writing.turn()
        return
    while int(processes.total(torch.tensor(int(writing.busy), device=processes.device))):
        for _ in range(CALLS_BETWEEN_QUESTIONS):
            if writing.busy:
                yield writing.turn()
            else:
                writing.idle()


def _progress(processes: Processes, count: int) -> Any:
    """The count of the first process; the others go at the same speed, and say nothing."""
    return nullcontext(lambda _: None) if processes.rank else counting("Responses", count, "responses")


def _check(model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
    longest = getattr(model.config, "max_position_embeddings", None)
    for place, ids in enumerate(prompts):
        if not len(ids):
            raise ConfigError(f"prompt {place} has no token, so nothing predicts the first token of a response")
        if isinstance(longest, int) and len(ids) + sampling.max_new_tokens > longest:
            raise ConfigError(
                f"prompt {place} has {len(ids)} tokens; with sampling.max_new_tokens={sampling.max_new_tokens} that is "
                f"more than the {longest} positions of the model.\n"
                f"  Fix: set sampling.max_new_tokens to {longest - len(ids)} or less, or leave out long prompts."
            )
