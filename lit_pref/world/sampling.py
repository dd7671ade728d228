"""Draws responses from a model at temperature 1. Knows nothing about what they say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_NEW_TOKENS = 24  # every response of the world is shorter; what is longer is garbled


def sample(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[str]:
    """One response a prompt, by torch's CPU generator. Prompts of one length run together: nothing is padded."""
    by_length: dict[int, list[int]] = defaultdict(list)
    ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    for i, row in enumerate(ids):
        by_length[len(row)].append(i)
    responses = [""] * len(prompts)
    for length in sorted(by_length):
        rows = by_length[length]
        for i, response in zip(rows, _sample(model, tokenizer, [ids[i] for i in rows]), strict=True):
            responses[i] = response
    return responses


def _sample(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[list[int]]) -> list[str]:
    import torch

    sequence = torch.tensor(rows)  # (B, T)
    done = torch.zeros(len(rows), dtype=torch.bool)
    with torch.no_grad():
        for _ in range(MAX_NEW_TOKENS):
            probs = model(input_ids=sequence).logits[:, -1].float().softmax(-1)  # (B, V)
            token = torch.multinomial(probs, 1).masked_fill(done[:, None], tokenizer.eos_token_id)
            sequence = torch.cat([sequence, token], dim=1)
            done |= token[:, 0] == tokenizer.eos_token_id
            if done.all():
                break
    new = sequence[:, len(rows[0]) :].tolist()
    return [str(tokenizer.decode(_until(row, tokenizer.eos_token_id))) for row in new]


def _until(row: list[int], end: int) -> list[int]:
    return row[: row.index(end)] if end in row else row
