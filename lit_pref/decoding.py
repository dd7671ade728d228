"""Responses that are being written, and what their model says comes next. Knows nothing about draws or processes.

All rows end at the same column, so a cache of keys and values grows by one column a call, rows that have ended leave
it, and waiting rows join it. Layers with a sliding window keep all columns too; their masks see to the window.
Legend: B rows, T columns, V vocabulary.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


@dataclass
class Row:
    """One response, and the prompt that it answers.

    Attributes:
        index: place of the prompt among those that were asked for.
        sample: number of the response among those to this prompt.
        prompt: token ids.
        new: token ids of the response so far.
    """

    index: int
    sample: int
    prompt: Sequence[int]
    new: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens so far."""
        return len(self.prompt) + len(self.new)


class Reader(Protocol):
    """Reads rows as they grow; each ``admit`` and each ``step`` is one call of the model."""

    def admit(self, rows: Sequence[Row]) -> Tensor:
        """Take in further rows of nothing but prompts; (B, V) logits of their first tokens."""

    def step(self, rows: Sequence[Row]) -> Tensor:
        """(B, V) logits of the next tokens of all rows, in the order in which they were taken in."""

    def keep(self, places: Sequence[int], rows: Sequence[Row]) -> None:
        """Forget all rows but these, given by their places and as they are."""


def reader(model: nn.Module, device: torch.device) -> Reader:
    """The fastest reader that is right for a model."""
    return Cached(model, device) if cacheable(model) else Reread(model, device)


def cacheable(model: Any) -> bool:
    """Whether all that a model remembers are keys and values of single tokens, so that rows can leave and join."""
    layers = DynamicCache(config=model.config).layers
    types = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or []
    # Chunks are counted from the first column, which moves here.
    return (
        all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
        and not getattr(model, "_is_stateful", False)
        and "chunked_attention" not in types
    )


class _Calls:
    """Calls a model on rows that are padded on the left; gives the logits of the last column."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model = model
        self.device = device
        bare = model.get_base_model() if hasattr(model, "get_base_model") else model
        known = inspect.signature(bare.forward).parameters
        # Without it, logits of all prompt tokens would exist at once.
        self.options: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self.counted = "position_ids" in known

    def padded(self, sequences: Sequence[Sequence[int]], cache: DynamicCache | None) -> Tensor:
        """Logits (B, V) behind whole sequences."""
        lengths = torch.tensor([len(ids) for ids in sequences])
        width = int(lengths.max())
        ids = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in sequences])  # (B, T)
        return self(ids, lengths, width, cache)

    def __call__(self, ids: Tensor, lengths: Tensor, width: int, cache: DynamicCache | None) -> Tensor:
        """Logits (B, V) behind the last ``ids`` of rows with ``lengths`` real tokens in ``width`` columns."""
        empty = (width - lengths)[:, None]  # (B, 1)
        column = torch.arange(width)[None]  # (1, T)
        mask = (column >= empty).to(torch.int64)
        options = dict(self.options)
        if self.counted:
            options["position_ids"] = (column - empty).clamp_min(0)[:, -ids.shape[1] :].to(self.device)
        return self.model(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            past_key_values=cache,
            use_cache=cache is not None,
            **options,
        ).logits[:, -1]


class Cached:
    """Keeps keys and values of all tokens but the last of each row."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.call = _Calls(model, device)
        self.cache: DynamicCache | None = None

    def admit(self, rows: Sequence[Row]) -> Tensor:
        """Reads each prompt once, however many samples of it there are."""
        prompts = {row.index: row.prompt for row in rows}
        cache = DynamicCache()
        logits = self.call.padded(list(prompts.values()), cache)
        if len(prompts) < len(rows):
            places = list(prompts)
            index = torch.tensor([places.index(row.index) for row in rows], device=logits.device)
            logits = logits[index]
            cache.batch_select_indices(index)
        self.cache = cache if self.cache is None else _joined(self.cache, cache)
        return logits

    def step(self, rows: Sequence[Row]) -> Tensor:
        """Reads the last token of each row."""
        assert self.cache is not None, "no row was taken in"
        ids = torch.tensor([[row.new[-1]] for row in rows])
        return self.call(ids, torch.tensor([row.length for row in rows]), self.cache.get_seq_length() + 1, self.cache)

    def keep(self, places: Sequence[int], rows: Sequence[Row]) -> None:
        """Also drops the columns that only longer rows needed."""
        if not rows:
            self.cache = None
            return
        assert self.cache is not None, "no row was taken in"
        index = torch.tensor(places, device=self.call.device)
        width = max(row.length for row in rows) - 1
        for layer in _filled(self.cache):
            layer.keys = layer.keys[:, :, -width:].index_select(0, index)
            layer.values = layer.values[:, :, -width:].index_select(0, index)


class Reread:
    """Reads whole rows in every call: slow, and right for any model, whatever it remembers."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.call = _Calls(model, device)

    def admit(self, rows: Sequence[Row]) -> Tensor:
        """Reads prompts."""
        return self.call.padded([row.prompt for row in rows], None)

    def step(self, rows: Sequence[Row]) -> Tensor:
        """Reads prompts and responses."""
        return self.call.padded([[*row.prompt, *row.new] for row in rows], None)

    def keep(self, places: Sequence[int], rows: Sequence[Row]) -> None:
        """Remembers nothing."""


def _filled(cache: DynamicCache) -> list[Any]:
    """Layers that hold something: where layers share keys and values, some do not."""
    return [layer for layer in cache.layers if getattr(layer, "is_initialized", False)]


def _joined(old: DynamicCache, new: DynamicCache) -> DynamicCache:
    """The rows of both, the narrower ones padded on the left."""
    for a, b in zip(_filled(old), _filled(new), strict=True):
        a.keys, a.values = _stacked(a.keys, b.keys), _stacked(a.values, b.values)
    return old


def _stacked(a: Tensor, b: Tensor) -> Tensor:
    width = max(a.shape[2], b.shape[2])
    table = a.new_zeros(a.shape[0] + b.shape[0], a.shape[1], width, a.shape[3])  # (B, heads, T, size of a head)
    table[: a.shape[0], :, width - a.shape[2] :] = a
    table[a.shape[0] :, :, width - b.shape[2] :] = b
    return table
