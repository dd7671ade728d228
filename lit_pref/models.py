"""Where a causal language model and its tokenizer come from. Knows nothing about data, losses or training loops."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from . import world
from .adapters import LoRA, with_adapters
from .errors import ConfigError, SetupError
from .fast_path import pad_always
from .paths import file_sha256
from .pretrained import pretrained

#: bfloat16 keeps 8 significant bits, so half a unit in the last place of a weight in [2^e, 2^(e+1)) is 2^(e-8).
BFLOAT16_HALF_ULP = -8.0


@dataclass
class CausalLM:
    """A causal language model of transformers: from a folder, the hub, a bare config, or the tiny world.

    Attributes:
        path: local folder, hub name, or the name of an embedded tiny-world model such as "world:agreement".
        weights: "pretrained" loads them; "random" builds the architecture of the config with fresh weights.
        config: values that replace those of the model's config, e.g. {num_hidden_layers: 4}.
        seed: seed of random weights and of fresh adapters.
        dtype: precision the weights are kept in. float32 is the default whatever the checkpoint holds: learning
            rates of preference optimization are too small to change bfloat16 weights. For bfloat16 arithmetic
            on float32 weights set trainer.precision to bf16-mixed.
        attn_implementation: attention of transformers ("eager", "sdpa", "flash_attention_2", ...).
        gradient_checkpointing: recompute activations in backward, saving memory for about a third more time.
        dropout: False sets every dropout of the model to 0, the custom of preference optimization; True keeps
            the config's values.
        revision: branch, tag or commit on the hub.
        layout: "packed" reads a pair as its prompt once with both responses behind it, all pairs of a batch in one row
            without padding, where the architecture gives the same numbers then (found out by trying); "padded" never.
        trust_remote_code: let the model's repository run its own code on this machine.
        lora: train low-rank adapters instead of all weights.
    """

    path: str
    weights: Literal["pretrained", "random"] = "pretrained"
    config: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attn_implementation: str | None = None
    gradient_checkpointing: bool = False
    dropout: bool = False
    revision: str | None = None
    layout: Literal["packed", "padded"] = "packed"
    trust_remote_code: bool = False
    lora: LoRA | None = None

    def build(self) -> PreTrainedModel:
        """The model with trainable weights, in training mode, so that gradient checkpointing is really on.

        Raises:
            SetupError: no such folder, the hub cannot be reached, or the files lack weights of a causal language model.
            ConfigError: the config has no such value, or the model no gradient checkpointing.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = self._load()
            if not self.dropout:
                _silence_dropout(model)
            if self.gradient_checkpointing:
                _checkpoint_gradients(model)
            if self.lora is not None:
                model = with_adapters(model, self.lora, self.gradient_checkpointing)
        return model.train()

    def build_frozen(self) -> PreTrainedModel:
        """The same model without adapters, frozen and in evaluation mode: what a reference holds."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self._load().requires_grad_(False).eval()

    def fingerprint(self) -> str:
        """A name for the frozen weights: of the files they come from, or of the config and seed they are drawn from.

        Adapters and dropout do not count.
        """
        source = locate(self.path)
        options: dict[str, Any] = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        try:
            config = AutoConfig.from_pretrained(source, **options).to_dict()
        except OSError as error:
            raise SetupError(_not_loaded("model", self.path, error)) from error
        config.pop("_name_or_path", None)  # a folder that moves holds the same model
        parts: list[Any] = [self.weights, self.config, self.dtype, self.attn_implementation, config, torch.__version__]
        if self.weights == "random":
            parts.append(self.seed)
        elif Path(source).is_dir():
            files = [*Path(source).glob("*.safetensors"), *Path(source).glob("*.bin")]
            parts += [file_sha256(file) for file in sorted(files)]
        else:
            parts += [self.path, config.get("_commit_hash")]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that belongs to the model."""
        return load_tokenizer(self.path, self.revision, self.trust_remote_code)

    def _load(self) -> PreTrainedModel:
        model = self._loaded()
        if self.layout == "padded":
            pad_always(model)
        return model

    def _loaded(self) -> PreTrainedModel:
        source = locate(self.path)
        options: dict[str, Any] = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        try:
            config = AutoConfig.from_pretrained(source, **options)
            _override(config, self.config, self.path)
            options |= {"dtype": getattr(torch, self.dtype), "attn_implementation": self.attn_implementation}
            if self.weights == "random":
                del options["revision"]
                return AutoModelForCausalLM.from_config(config, **options)
            return pretrained("model", self.path, AutoModelForCausalLM, source, config=config, **options)
        except OSError as error:
            raise SetupError(_not_loaded("model", self.path, error)) from error


def load_tokenizer(path: str, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder, a hub name or a tiny-world model.

    Where the tokenizer's own files name no end-of-sequence token, the one of the model's config is used.

    Raises:
        SetupError: there is none, or the hub cannot be reached.
    """
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    source = locate(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        if tokenizer.eos_token_id is None:
            eos = AutoConfig.from_pretrained(source, **options).eos_token_id
            eos = eos[0] if isinstance(eos, list) else eos
            tokenizer.eos_token = None if eos is None else tokenizer.convert_ids_to_tokens(eos)
    except (OSError, ValueError) as error:
        raise SetupError(_not_loaded("tokenizer", path, error)) from error
    return tokenizer


def locate(path: str) -> str:
    """A path that transformers can load; builds a tiny-world model on first use."""
    if world.is_world(path):
        folder = world.resolve(path)
        if not folder.is_dir():
            raise ConfigError(f"{path!r} names preference data; the model of that world is {path.split('/')[0]!r}")
        return str(folder)
    if path.startswith((".", "/", "~")) and not Path(path).expanduser().is_dir():
        raise SetupError(f"model path {path!r}: there is no such folder. Give a local folder or a hub name.")
    return str(Path(path).expanduser()) if path.startswith("~") else path


def share_kept_by_rounding(model: nn.Module, learning_rate: float) -> float:
    """Share of trainable bfloat16 weights that an update of size ``learning_rate`` cannot change.

    Adaptive optimizers move a weight by about the learning rate a step; bfloat16 rounds that away where it is
    below half a unit in the last place (of 0.02, for example: 6e-5).
    """
    kept = total = 0
    for weight in model.parameters():
        if weight.requires_grad:
            total += weight.numel()
            if weight.dtype == torch.bfloat16:
                exponent = torch.frexp(weight.detach().float())[1] - 1  # frexp's mantissa lies in [0.5, 1)
                half_ulp = torch.exp2(exponent + BFLOAT16_HALF_ULP)
                kept += int((learning_rate < half_ulp).sum())
    return kept / total if total else 0.0


def _override(config: PretrainedConfig, values: dict[str, Any], path: str) -> None:
    for key, value in values.items():
        if not hasattr(config, key):
            raise ConfigError(f"model.policy.config.{key}: the config of {path!r} has no value of that name")
        setattr(config, key, value)


def _silence_dropout(model: nn.Module) -> None:
    """Set dropout to 0 both where it is a module and where attention reads it from an attribute."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def _checkpoint_gradients(model: PreTrainedModel) -> None:
    if not model.supports_gradient_checkpointing:
        raise ConfigError(
            f"model.policy.gradient_checkpointing: {type(model).__name__} does not offer it; set it to false"
        )
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _not_loaded(what: str, path: str, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"{what} {path!r} could not be loaded: {reason}\n"
        f"  Fix: give a local folder with the files of a transformers {what}, or a hub name while online."
    )
