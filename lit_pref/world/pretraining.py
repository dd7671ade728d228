"""Trains a tiny Llama on lines of text. Knows nothing about what they say, about preferences or the cache."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from lit_pref.console import counting
from lit_pref.world.text import Example

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

# About 130k parameters: seconds on one core, yet it learns.
WIDTH, LAYERS, HEADS, FEED_FORWARD = 64, 2, 4, 192
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
WARMUP_STEPS = 30
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.98)
CLIP = 1.0
MAX_POSITIONS = 128
IGNORED = -100  # the label that the loss of transformers skips


@contextmanager
def apart(seed: int) -> Iterator[None]:
    """A corner of torch with its own seed, one thread, CPU and float32; the caller's settings come back.

    One thread, because the order of a parallel sum depends on the number of threads, and the result is to be
    the same bytes on the same machine. Only the CPU generator is seeded: `torch.manual_seed` would touch the
    GPUs' too.
    """
    import torch

    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_num_threads, threads)
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float32)
        torch.random.default_generator.manual_seed(seed)
        yield


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Random weights; the output embedding is its own, since the theory is about its rows."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def batch(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Prompt ids + response ids + EOS, padded on the right: the very form in which pairs are scored later."""
    import torch

    rows = [
        tokenizer(e.prompt, add_special_tokens=False)["input_ids"]
        + tokenizer(e.response, add_special_tokens=False)["input_ids"]
        + [tokenizer.eos_token_id]
        for e in examples
    ]
    width = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])  # (B, T)
    real = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]  # (B, T)
    labels = ids.masked_fill(~real, IGNORED)
    return {"input_ids": ids, "attention_mask": real.long(), "labels": labels}


def pretrain(
    tokenizer: PreTrainedTokenizerFast,
    example: Callable[[random.Random], Example],
    steps: int,
    seed: int,
    title: str,
) -> LlamaForCausalLM:
    """A new model after `steps` steps on fresh lines of text. Call it inside `apart`."""
    import torch

    rng = random.Random(seed)
    model = new_model(tokenizer).train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, BETAS, weight_decay=WEIGHT_DECAY)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARMUP_STEPS, total_iters=WARMUP_STEPS)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    scheduler = torch.optim.lr_scheduler.ChainedScheduler([warmup, cosine])
    with counting(title, steps) as advance:
        for _ in range(steps):
            lines = [example(rng) for _ in range(BATCH_SIZE)]
            loss = model(**batch(tokenizer, lines)).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            scheduler.step()
            advance(1)
    return model.eval()
