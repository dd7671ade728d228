"""A model's own forward on a layout, with other work in the place of its output embedding.

Knows models and layouts; nothing of losses. Everything stays inside the model's own call of its modules, so that
strategies that shard or gather parameters around them work as for any forward.
Legend: N states, D hidden, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .batch import Layout
from .packing import encode

#: (states (R*T, D), the output embedding's own forward) -> what takes the place of its output, (n, ...).
Work = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]


def forward(model: nn.Module, layout: Layout, work: Work) -> tuple[Tensor, Tensor]:
    """Run the model, but ``work`` where it calls its output embedding.

    Args:
        model: a transformers causal language model, possibly wrapped by peft.
        layout: what to read; a packed one only where ``fast_path`` says that the model reads it.
        work: called once, with the states of all tokens.

    Returns:
        What ``work`` returned, as the output embedding's module handed it on, and what the model made of it, (n, ...).

    Raises:
        ValueError: the model does not call its output embedding once on the states of all tokens.
    """
    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    own, replaced = head.forward, head.__dict__.get("forward")
    tokens = layout.input_ids.numel()
    outputs: list[Tensor] = []
    strange = []

    def instead(states: Tensor) -> Tensor:
        flat = states.flatten(0, -2)
        strange.append(len(flat) != tokens)
        return work(flat, own).unsqueeze(0)

    # A hook sees what other hooks have made of the output, such as DeepSpeed's, which gather weights for backward.
    hook = head.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    head.forward = instead
    try:
        found = model(**arguments(layout), use_cache=False).logits
    finally:
        hook.remove()
        if replaced is None:
            del head.forward
        else:
            head.forward = replaced
    if len(outputs) != 1 or any(strange) or found.shape[:2] != outputs[0].shape[:2]:
        raise ValueError(
            f"{type(model).__name__} does not call its output embedding once on the states of all tokens, "
            "so its response tokens cannot be scored; use a causal language model of transformers"
        )
    return outputs[0][0], found[0]


def arguments(layout: Layout) -> dict[str, Any]:
    """What a model is told of a layout; where it is packed, its groups stand in the place of the mask."""
    mask = encode(layout.groups) if layout.attention_mask is None else layout.attention_mask
    return {"input_ids": layout.input_ids, "attention_mask": mask, "position_ids": layout.position_ids}


def predictions(
    model: nn.Module, layout: Layout, state_index: Tensor, predicted: int | None = None
) -> tuple[Tensor, Tensor]:
    """States (N, D) at the flat positions ``state_index`` (N,), and the logits that the first of them predict.

    The model's own output embedding sees only these, and whatever the architecture does to logits afterwards
    (soft-capping, scaling) stays the architecture's own code.

    Args:
        model: as in ``forward``.
        layout: what to read.
        state_index: (N,) positions in the flattened rows.
        predicted: how many states the output embedding sees, the first ones; all by default, 0 to skip its cost.

    Raises:
        ValueError: as in ``forward``.
    """
    seen: list[Tensor] = []

    def work(states: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        seen.append(states[state_index])
        return head(seen[0][:predicted])

    _, logits = forward(model, layout, work)
    return seen[0], logits
