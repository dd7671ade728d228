"""Which shortcuts are exact for a model, found out by trying them on a few tokens. Knows models; nothing of data.

Two things differ between architectures: whether attention through transformers' interface is all that mixes tokens, so
that pairs can be packed, and what happens to logits behind the output embedding, so that log-probabilities can be
computed without them. Neither is asked of a list of names: a model that ignores what it is handed would be silently
wrong. Both are tried against the model's own padded forward, once an architecture.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from .batch import Layout, lay_out, lay_out_packed
from .console import say
from .evaluating import evaluating
from .forward import forward, predictions
from .logit_rule import LogitRule
from .packed_attention import NAMES, install, uninstall, windows_seen

#: Tokens of prompts, and of the responses to each, that are tried: short and long ones, a single token, one alone.
SIZES = ((9, (5, 12)), (3, (1, 20)), (70, (41, 33)), (30, (7,)))
#: Positions that these take up, and those that only try another way to pad.
LONGEST = 128
#: Packed states may differ by this many times what padding otherwise changes, and by this many units of rounding.
NOISE, ROUNDING = 8, 16
#: Names under which configs keep what logits are multiplied or divided by, and what they are capped at.
SCALES = ("logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier", "output_multiplier_scale")
CAPS = ("final_logit_softcapping", "logits_soft_cap", "final_logits_soft_cap")
#: Products are made this large to try rules: where logits are small, a cap does nothing.
LARGE = 60.0


class FastPath(NamedTuple):
    """What is exact for a model.

    Attributes:
        packs: whether it reads packed rows.
        rule: what it does to the products of its output embedding; None where that is not known, or where these are
            not those of one matrix.
    """

    packs: bool
    rule: LogitRule | None


_of_models: WeakKeyDictionary[nn.Module, FastPath] = WeakKeyDictionary()
_of_architectures: dict[tuple[Any, ...], FastPath] = {}
_padded: WeakSet[nn.Module] = WeakSet()


def pad_always(model: nn.Module) -> None:
    """Never pack for this model."""
    _padded.add(model)


def fast_path(model: nn.Module, device: torch.device) -> FastPath:
    """What is exact for this model; the first call for an architecture tries it, by four forwards of some 300 tokens.

    Where calls of the model wait for other processes, all have to make the first call at the same place.

    Args:
        model: a transformers causal language model, possibly wrapped by peft.
        device: where it computes.
    """
    if model not in _of_models:
        base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        padded = model in _padded or base in _padded
        key = _architecture(model, base, device, padded)
        if key not in _of_architectures:
            _of_architectures[key] = _tried(model, base, device, padded)
        found = _of_architectures[key]
        _of_models[model] = found._replace(packs=found.packs and install(base))
    return _of_models[model]


def _architecture(model: nn.Module, base: Any, device: torch.device, padded: bool) -> tuple[Any, ...]:
    head = type(model.get_output_embeddings())  # type: ignore[operator]
    dtype = next(model.parameters()).dtype
    return (
        type(model),
        type(base),
        base.config.to_json_string(),
        base.config._attn_implementation,
        head,
        dtype,
        device,
        padded,
    )


def _tried(model: nn.Module, base: Any, device: torch.device, padded: bool) -> FastPath:
    sequences = _sequences(base.config.get_text_config())
    layout = lay_out(sequences).to(device)
    with evaluating(model), torch.no_grad(), torch.autocast(device.type, enabled=False):
        rule = _rule(model, base, layout)
        packs = False if padded else _packs(model, base, layout, sequences)
    return FastPath(packs, rule)


def _sequences(config: Any) -> list[tuple[list[int], list[int]]]:
    """Prompts with their responses; tokens are drawn, so that no model has a reason to treat them alike.

    Where a model has few positions, all are shorter.
    """
    generator = torch.Generator().manual_seed(0)
    positions = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "n_ctx")]
    room = min([LONGEST, *(p for p in positions if isinstance(p, int) and p > 0)])

    def ids(count: int) -> list[int]:
        fitting = max(count * room // LONGEST, 1)
        return torch.randint(config.vocab_size, (fitting,), generator=generator).tolist()

    prompts = [(ids(prompt), responses) for prompt, responses in SIZES]
    return [(prompt, ids(count)) for prompt, responses in prompts for count in responses]


# --- packing --------------------------------------------------------------------------------------------------------


def _packs(model: nn.Module, base: Any, layout: Layout, sequences: list[tuple[list[int], list[int]]]) -> bool:
    """Whether packed states are those of the padded forward; where they are not, one sentence says so."""
    found = _difference(model, base, layout, sequences)
    if isinstance(found, str):
        say(f"{type(base).__name__} reads padded pairs, which is slower than packed ones: {found}.")
    return found is True


def _difference(
    model: nn.Module, base: Any, layout: Layout, sequences: list[tuple[list[int], list[int]]]
) -> bool | str:
    expected = predictions(model, layout, layout.state_index, 0)[0]
    longer = [token for _, response in sequences for token in response]
    again = lay_out([*sequences[::-1], (longer, longer[:1])]).to(layout.target.device)
    noise = _distance(_in_order(predictions(model, again, again.state_index, 0)[0], again, len(sequences)), expected)
    if not install(base):
        named = base.config._attn_implementation
        return f"its attention ({named}) cannot be told which tokens belong together{_remedy(base)}"
    row = lay_out_packed(sequences).to(layout.target.device)
    try:
        with windows_seen() as windows:
            packed = predictions(model, row, row.state_index, 0)[0]
        apart = _distance(packed, expected)
        allowed = NOISE * noise + ROUNDING * torch.finfo(expected.dtype).eps
        missed = _windows(base.config) - windows
        if apart <= allowed and not missed:
            return True
        why = f"it does not say of its window of {min(missed)} tokens" if missed else f"states differ by {apart:.1e}"
    except Exception as error:  # whatever a model does that does not expect this
        why = f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else 'without a reason'}"
    uninstall(base)
    return why


def _remedy(base: Any) -> str:
    """What else could be asked for, where a model has attention that reads packed rows."""
    named = base.config._attn_implementation in NAMES
    return "" if named or not base._supports_sdpa else "; set model.policy.attn_implementation to sdpa to pack"


def _in_order(states: Tensor, reversed_layout: Layout, count: int) -> Tensor:
    """States of the first ``count`` responses of a layout, the last one first."""
    parts = states.split(reversed_layout.lengths.tolist())[:count]
    return torch.cat(parts[::-1])


def _distance(found: Tensor, expected: Tensor) -> float:
    """The largest relative difference of a state; infinity where it is none."""
    apart = (found.float() - expected.float()).norm(dim=-1) / expected.float().norm(dim=-1)
    return float(apart.nan_to_num(float("inf")).max())


def _windows(config: Any) -> set[int]:
    """Windows of attention that a config names, which few tokens cannot show."""
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    used = getattr(text, "use_sliding_window", True) and (kinds is None or "sliding_attention" in kinds)
    return {window} if isinstance(window, int) and used else set()


# --- logits ---------------------------------------------------------------------------------------------------------


def _rule(model: nn.Module, base: Any, layout: Layout) -> LogitRule | None:
    """What the model makes of its products, of the rules that its config gives reason to try."""
    if type(model.get_output_embeddings()) is not nn.Linear:  # type: ignore[operator]
        return None

    def large(states: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        few = states[layout.state_index[:4]]
        return head(few * (LARGE / head(few).float().abs().max().clamp(min=1e-6)).to(few.dtype))

    products, logits = (found.double() for found in forward(model, layout, large))
    text = base.config.get_text_config()
    named = [[getattr(text, name, None) for name in names] for names in (SCALES, CAPS)]
    scales, caps = ([float(n) for n in numbers if isinstance(n, int | float) and n > 0] for numbers in named)
    rules = [LogitRule(scale, cap) for scale, cap in product([1.0, *scales, *(1 / s for s in scales)], [None, *caps])]
    if products.shape != logits.shape:
        return None
    apart = {rule: float((rule(products) - logits).abs().max() / logits.abs().max()) for rule in rules}
    best = min(rules, key=lambda rule: apart[rule])
    precision = torch.finfo(next(model.parameters()).dtype).eps
    return best if apart[best] <= 8 * precision else None
