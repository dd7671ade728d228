"""Low-rank adapters through peft (an optional package). Knows nothing about where models come from."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from .errors import SetupError


@dataclass
class LoRA:
    """Low-rank adapters: Hu et al., ICLR 2022, https://arxiv.org/abs/2106.09685

    Attributes:
        r: rank of the update.
        alpha: its scale; the update is multiplied by alpha / r.
        target_modules: names of the layers that get one; None: peft's choice for the architecture;
            "all-linear": every linear layer but the output embedding.
        dropout: dropout on the input of each adapter.
    """

    r: int = 16
    alpha: int = 32
    target_modules: str | list[str] | None = None
    dropout: float = 0.0


def with_adapters(model: PreTrainedModel, lora: LoRA, gradient_checkpointing: bool) -> PreTrainedModel:
    """The model with fresh adapters; all other weights are frozen."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise SetupError(
            "model.policy.lora needs the package peft, which is not installed.\n  Fix: pip install 'lit-pref[lora]'"
        ) from error
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        target_modules=lora.target_modules,
        lora_dropout=lora.dropout,
        task_type="CAUSAL_LM",
    )
    if gradient_checkpointing:
        # With frozen embeddings nothing before the first adapter asks for a gradient, and checkpointing would drop it.
        model.enable_input_require_grads()
    return get_peft_model(model, config)  # type: ignore[return-value]
