"""Attention within packed rows: every response sees its prompt and itself. Knows queries, keys and values; no model.

transformers hands whatever stands in the place of the attention mask through to the attention of every layer, and
through recomputation under gradient checkpointing too. Packed rows put their groups there, as whole numbers; any other
mask goes to the attention that the model had before.
Legend: L tokens, H heads, K of keys and values, d features of a head.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.utils import logging

from .packed_blocks import Row
from .packing import decode

#: Attention of a model -> the name under which packed rows are added to it.
NAMES = {"sdpa": "packed_sdpa", "eager": "packed_eager"}
#: Arguments that change nothing here: what is not among them might change what attention means.
HARMLESS = {"position_ids", "use_cache", "cache_position", "output_attentions", "is_causal"}


def row_of(code: Tensor) -> Row:
    """The calls for the row whose groups a tensor holds; worked out once for all layers of a model."""
    row: Row | None = getattr(code, "packed_row", None)
    if row is None:
        row = Row(decode(code))
        code.packed_row = row  # type: ignore[attr-defined]
    return row


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    row: Row,
    scaling: float | None,
    dropout: float = 0.0,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention of a packed row.

    Args:
        query: (1, H, L, d).
        key: (1, K, L, d), where K divides H.
        value: (1, K, L, dv).
        row: which tokens see which.
        scaling: of the products; 1/sqrt(d) by default.
        dropout: of attention weights.
        window: most tokens that one sees, itself included.
        softcap: caps products at this size.

    Returns:
        (1, L, H, dv).
    """
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    # Splitting joins gradients in one go, where slices would each fill a tensor of the whole row.
    sizes = [block.queries for block in row.blocks]
    parts = zip(*(x.split(sizes, 2) for x in (query, key, value)), strict=True)
    outputs: list[Tensor] = []
    first = key, value
    for block, mask, (q, k, v) in zip(row.blocks, row.masks(window, query.device), parts, strict=True):
        if block.prompt:
            before_k, before_v = (x[:, :, : block.prompt] for x in first)
            k, v = torch.cat([before_k, k], 2), torch.cat([before_v, v], 2)
        else:
            first = k, v
        outputs.append(_call(q, k, v, mask, scaling, dropout, softcap).transpose(1, 2))
    return torch.cat(outputs, 1)


def _call(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None, dropout: float, softcap: float | None
) -> Tensor:
    if softcap is None:
        return functional.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None, scale=scaling)
    if mask is None:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    scores = (q @ k.transpose(2, 3)) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = (torch.tanh(scores / softcap) * softcap).masked_fill(~mask, float("-inf"))
    weights = functional.dropout(
        scores.softmax(-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype), dropout
    )
    return weights @ v


_seen: list[set[int]] = []


@contextmanager
def windows_seen() -> Iterator[set[int]]:
    """While it lasts, the windows that models ask for are noted in the set that it yields."""
    _seen.append(set())
    try:
        yield _seen[-1]
    finally:
        _seen.pop()


class PackedAttention:
    """The attention that a model had, which reads packed rows too.

    Args:
        base: name of the attention that the model had.
    """

    def __init__(self, base: str) -> None:
        self.base = base

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if attention_mask is None or attention_mask.dtype != torch.int64 or attention_mask.ndim != 4:
            options = {"sliding_window": sliding_window, **({} if softcap is None else {"softcap": softcap})}
            before = self._before(module)
            return before(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout,
                          **options, **kwargs)  # fmt: skip
        strange = [
            name for name, given in kwargs.items() if name not in HARMLESS and not (given is None or given is False)
        ]
        if strange:
            raise NotImplementedError(f"packed rows know nothing of {strange[0]}")
        for windows in _seen:
            windows |= set() if sliding_window is None else {sliding_window}
        return attend(query, key, value, row_of(attention_mask), scaling, dropout, sliding_window, softcap), None

    def _before(self, module: nn.Module) -> Callable[..., tuple[Tensor, Tensor | None]]:
        own: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        found: Callable[..., tuple[Tensor, Tensor | None]] = AttentionInterface().get_interface(self.base, own)
        return found


def install(model: PreTrainedModel) -> bool:
    """Let a model's attention read packed rows too; False where its attention cannot be replaced.

    What it computes without packed rows stays as it was.
    """
    base = model.config._attn_implementation
    if base in NAMES.values():
        return True
    if base not in NAMES:
        return False
    name = NAMES[base]
    AttentionInterface.register(name, PackedAttention(base))
    masks = AttentionMaskInterface()
    AttentionMaskInterface.register(name, masks[base])
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns where it cannot, which is said in other words
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError):
        return False
    finally:
        logging.set_verbosity(level)
    return bool(model.config._attn_implementation == name)


def uninstall(model: PreTrainedModel) -> None:
    """Give a model the attention back that it had."""
    for base, name in NAMES.items():
        if model.config._attn_implementation == name:
            model.set_attn_implementation(base)
