"""What judges with a model of transformers share: loading it late, and batches. Knows nothing of what it is asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from .base import Item, Judge, Verdict


class ModelJudge(Judge):
    """Labels responses with a model, in batches of like lengths.

    An empty response is unparseable and costs no call; an item that the model cannot be run on has the verdict `error`.
    Subclasses give `batch_size`, `failed`, `_load`, `_length` and `_judge`.
    """

    batch_size: int
    #: Begins the reason of an `error`.
    failed: str
    #: The model and what else `_load` gives; None before `prepare` and after `release`.
    _loaded: tuple[Any, ...] | None = None

    @abstractmethod
    def _load(self) -> tuple[Any, ...]:
        """The model, in evaluation mode, and whatever `_judge` needs beside it."""

    @abstractmethod
    def _length(self, item: Item) -> int:
        """About how long the model's input is, in any unit; items of like lengths share a batch."""

    @abstractmethod
    def _judge(self, items: list[Item]) -> list[Verdict]:
        """A verdict for each item of one batch, none of which is empty; an exception costs the batch a second try."""

    def prepare(self, device: torch.device) -> None:
        if self._loaded is None:
            self._loaded = self._load()
        self._loaded[0].to(device)

    def release(self) -> None:
        self._loaded = None

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        if self._loaded is None:
            self.prepare(torch.device("cpu"))
        full = [i for i, item in enumerate(items) if item.response.strip()]
        found = in_batches(
            full, [self._length(item) for item in items], self.batch_size,
            lambda batch: self._judge([items[i] for i in batch]),
            lambda error: self.verdict("error", reason=f"{self.failed}: {type(error).__name__}: {error}"),
        )  # fmt: skip
        empty = self.verdict("unparseable", reason="empty response")
        return [found.get(i, empty) for i in range(len(items))]


def in_batches(
    indices: Iterable[int],
    lengths: Sequence[int],
    batch_size: int,
    run: Callable[[list[int]], list[Verdict]],
    failed: Callable[[Exception], Verdict],
) -> dict[int, Verdict]:
    """Verdicts by index: like lengths share a batch, and a batch that fails is tried again item by item."""
    order = sorted(indices, key=lambda i: (-lengths[i], i))  # longest first: what does not fit in memory shows at once
    found: dict[int, Verdict] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        try:
            found.update(zip(batch, run(batch), strict=True))
        except Exception:
            for i in batch:
                try:
                    found[i] = run([i])[0]
                except Exception as error:  # one item's failure is its verdict; Ctrl-C is no Exception
                    found[i] = failed(error)
    return found
