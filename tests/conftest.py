"""What tests share: a small tokenizer, small models of any architecture, pairs of ids, and a cache of their own."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from lit_pref.batch import Pair
from objectives import PairScores, SequenceScores

torch.set_num_threads(1)
# Of the processes that tests start too: models so small lose more to threads that wait for each other than they gain.
os.environ.setdefault("OMP_NUM_THREADS", "1")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
VOCAB = 300
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SMALL: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    # Soft-caps so low that a path without them could not pass.
    "gemma2": {
        "head_dim": 8,
        "final_logit_softcapping": 2.0,
        "attn_logit_softcapping": 5.0,
        "sliding_window": 8,
    },
    "olmo": {},
    "gpt_neox": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "cohere": {"logit_scale": 0.25},
}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One cache a session, which its workers share: the tiny worlds are built once."""
    base = tmp_path_factory.getbasetemp()
    os.environ["LIT_PREF_CACHE"] = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"the real data are not at {DATA}")
    return DATA


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level BPE with chat template, a beginning-of-sequence token and distinct special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    text = ["The quick brown fox jumps over the lazy dog. Would you say yes or no? I would rather not."] * 4
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        text,
        trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.add_special_tokens({"additional_special_tokens": special[3:]})
    fast.chat_template = CHAT
    return fast


@pytest.fixture(scope="session")
def small_config() -> Callable[..., Any]:
    """A config of an architecture with 2 layers, 32 hidden units and the vocabulary of ``tokenizer``."""

    def make(name: str, **changes: Any) -> Any:
        values = {
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 4,
        }
        values |= {
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "eos_token_id": 2,
        }
        values = {} if name == "gpt2" else values
        return AutoConfig.for_model(
            name, **{**values, "vocab_size": VOCAB, "bos_token_id": 1, **SMALL[name], **changes}
        )

    return make


@pytest.fixture(scope="session")
def small_model(small_config: Callable[..., Any]) -> Callable[..., PreTrainedModel]:
    """A model with weights large enough that its softmaxes are far from flat."""

    def make(name: str = "llama", seed: int = 0, **changes: Any) -> PreTrainedModel:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(small_config(name, **changes))
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(torch.randn_like(weight) * 0.1)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def model_folder(
    small_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A small Llama and its tokenizer as a local folder."""
    folder = tmp_path_factory.mktemp("model")
    small_model("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def random_pairs() -> Callable[..., list[Pair]]:
    """Pairs of random ids with ragged lengths."""

    def make(count: int = 6, seed: int = 0, longest: int = 12) -> list[Pair]:
        generator = torch.Generator().manual_seed(seed)

        def ids() -> list[int]:
            length = int(torch.randint(1, longest, (1,), generator=generator))
            return torch.randint(7, VOCAB, (length,), generator=generator).tolist()

        return [Pair(row, ids(), ids(), ids()) for row in range(count)]

    return make


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty valid rows of prompt, chosen, rejected."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [
        {
            "prompt": f"Would you say number {i}?",
            "chosen": f" yes, {i} times",
            "rejected": f" no{' no' * (i % 5)}",
        }
        for i in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def make_scores() -> Callable[..., PairScores]:
    """PairScores from lists of log-probabilities and lengths."""

    def make(
        chosen: Any, rejected: Any, chosen_lengths: Any = None, rejected_lengths: Any = None, **kw: Any
    ) -> PairScores:
        def side(logps: Any, lengths: Any) -> SequenceScores:
            logps = torch.as_tensor(logps, **kw)
            lengths = torch.ones(len(logps), dtype=torch.int64) if lengths is None else torch.as_tensor(lengths)
            return SequenceScores(logps, lengths, logps.new_zeros(len(logps), 1))

        return PairScores(side(chosen, chosen_lengths), side(rejected, rejected_lengths))

    return make
