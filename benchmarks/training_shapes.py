"""Models that training is timed on, and what a step on them costs at least. Shared by its benchmarks.

Weights are random: time and memory do not depend on them. All embeddings are tied, as in small models of these kinds.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from lit_pref.batch import Pair
from lit_pref.cli import quiet

COMMON = {"tie_word_embeddings": True, "max_position_embeddings": 4096}
#: 28.3M, 56.2M and 27.8M parameters, of which 9.4M, 7.5M and 23.6M are no embeddings.
SHAPES: dict[str, dict[str, Any]] = {
    "smol": {
        "model_type": "llama", "vocab_size": 49_152, "hidden_size": 384, "intermediate_size": 1024,
        "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 2,
    },
    "qwen": {
        "model_type": "qwen2", "vocab_size": 151_936, "hidden_size": 320, "intermediate_size": 1536,
        "num_hidden_layers": 4, "num_attention_heads": 5, "num_key_value_heads": 5,
    },
    "small": {
        "model_type": "llama", "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1408,
        "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4,
    },
}  # fmt: skip
TINY = {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2,
        "num_key_value_heads": 2, "num_hidden_layers": 1}  # fmt: skip


class SavedModel(NamedTuple):
    """A folder that every side loads its weights from.

    Attributes:
        folder: config and weights.
        config: of transformers.
        parameters: all of them, each once.
        body: those that are no embeddings.
    """

    folder: Path
    config: Any
    parameters: int
    body: int


class Floor(NamedTuple):
    """Floating-point operations that no exact training step does without.

    Attributes:
        body: matrices of the layers, on every token once: prompts once a pair.
        attention: every token with those that it sees.
        head: the output embedding, on response tokens alone.
    """

    body: float
    attention: float
    head: float

    @property
    def total(self) -> float:
        return sum(self)


def shape_of(name: str, tiny: bool = False, **changes: Any) -> dict[str, Any]:
    """Values of the config of a shape; ``tiny`` keeps the architecture alone."""
    return {**COMMON, **SHAPES[name], **(TINY if tiny else {}), **changes}


def saved_model(shape: dict[str, Any], folder: Path) -> SavedModel:
    """Draw weights from a fixed seed and save them."""
    torch.manual_seed(0)
    quiet()
    disable_progress_bar()  # of writing, into the table
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape), dtype=torch.float32)
    model.save_pretrained(folder)
    parameters = sum(weight.numel() for weight in model.parameters())
    return SavedModel(folder, model.config, parameters, parameters - model.get_input_embeddings().weight.numel())


def unique_tokens(pairs: Sequence[Pair]) -> int:
    """Tokens of a batch, each prompt counted once."""
    return sum(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)


def floor_of(model: SavedModel, pairs: Sequence[Pair]) -> Floor:
    """Of forward and backward, which takes twice as much as forward: 6 operations a weight and token."""
    config = model.config
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    seen = sum(_seen(pair) for pair in pairs)
    responses = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
    return Floor(
        6.0 * model.body * unique_tokens(pairs),
        12.0 * config.num_hidden_layers * width * seen,  # queries with keys, and weights with values
        6.0 * config.hidden_size * config.vocab_size * responses,
    )


def matmul_peak(dtype: torch.dtype, size: int = 2048) -> float:
    """Floating-point operations a CPU second of this process's best large matrix product, with its threads."""
    a, b = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    best = float("inf")
    for _ in range(6):  # the first one finds its memory and its kernel
        start = time.process_time()
        torch.mm(a, b)
        best = min(best, time.process_time() - start)
    return 2.0 * size**3 / max(best, 1e-9)


def _seen(pair: Pair) -> int:
    """Pairs of a token and one that it sees, itself among them."""
    prompt, ends = len(pair.prompt), [len(pair.prompt) + len(r) for r in (pair.chosen, pair.rejected)]
    return sum(_triangle(end) for end in ends) - _triangle(prompt)


def _triangle(count: int) -> int:
    return count * (count + 1) // 2
