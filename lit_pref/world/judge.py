"""A small classifier of the request half's answers: refusal, compliance or garbled. Knows nothing of names or files.

It learns from the grammar and from broken copies of it, and reads the answer only. What counts as garbled in its
training is what the grammar could not have written, so it stands in for the rule `style_of`; being trained, it errs
now and then, as judges do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from lit_pref.console import counting
from lit_pref.world import request
from lit_pref.world.pretraining import BATCH_SIZE, BETAS, CLIP, LEARNING_RATE, MAX_POSITIONS, WARMUP_STEPS

if TYPE_CHECKING:
    import torch
    from transformers import BertForSequenceClassification, PreTrainedTokenizerFast

CLASSES = ("refusal", "compliance", "garbled")
STEPS = 400
GARBLED_SHARE = 0.4
STRANGE = ("zebra", "quux", "Maybe", "hello", "42")  # words that the grammar does not have


def train_judge(tokenizer: PreTrainedTokenizerFast, seed: int) -> BertForSequenceClassification:
    """A new classifier; the same seed gives the same weights. Call it inside `apart`."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=MAX_POSITIONS, pad_token_id=tokenizer.pad_token_id, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, id2label=dict(enumerate(CLASSES)),
        label2id={name: i for i, name in enumerate(CLASSES)},
    )  # fmt: skip
    model = BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE / 2, BETAS, weight_decay=0.01)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARMUP_STEPS, total_iters=WARMUP_STEPS)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    scheduler = torch.optim.lr_scheduler.ChainedScheduler([warmup, cosine])
    rng = random.Random(f"judge-{seed}")
    with counting(f"Training the tiny world's judge (seed {seed})", STEPS) as advance:
        for _ in range(STEPS):
            loss = model(**batch(tokenizer, [example(rng) for _ in range(BATCH_SIZE)])).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            scheduler.step()
            advance(1)
    return model.eval()


def batch(tokenizer: PreTrainedTokenizerFast, examples: list[tuple[str, str]]) -> dict[str, torch.Tensor]:
    """Answers, padded on the right, and their classes."""
    import torch

    encoded = tokenizer([text for text, _ in examples], padding=True, return_tensors="pt")
    labels = torch.tensor([CLASSES.index(name) for _, name in examples])
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": labels}


def example(rng: random.Random) -> tuple[str, str]:
    """An answer and its class: styles alike often, although the pre-training text prefers some."""
    if rng.random() < GARBLED_SHARE:
        return garbled(rng), "garbled"
    style = rng.choice([*request.REFUSALS, "comply", "comply", "comply"])
    return _answer(rng, style), "compliance" if style == "comply" else "refusal"


def garbled(rng: random.Random) -> str:
    """A text that the grammar could not have written, though most of it could."""
    while True:
        text = rng.choice(BREAKS)(rng, _answer(rng).split(" "))
        if text and request.style_of(text) is None:
            return text


def _answer(rng: random.Random, style: str | None = None) -> str:
    template = rng.choice(request.TEMPLATES[style or rng.choice(list(request.STYLES))])
    return template.format(verb=rng.choice(request.VERBS), object=rng.choice(request.OBJECTS))


def _word(rng: random.Random) -> str:
    return rng.choice([*rng.choice((request.VERBS, request.OBJECTS, STRANGE)), *_answer(rng).split(" ")])


def _drop(rng: random.Random, words: list[str]) -> str:
    i = rng.randrange(len(words))
    return " ".join(words[:i] + words[i + 1 :])


def _insert(rng: random.Random, words: list[str]) -> str:
    i = rng.randrange(len(words) + 1)
    return " ".join([*words[:i], _word(rng), *words[i:]])


def _replace(rng: random.Random, words: list[str]) -> str:
    i = rng.randrange(len(words))
    return " ".join([*words[:i], _word(rng), *words[i + 1 :]])


def _repeat(rng: random.Random, words: list[str]) -> str:
    i = rng.randrange(len(words))
    j = rng.randrange(i, len(words)) + 1
    return " ".join(words[:j] + words[i:j] * rng.choice((1, 1, 2, 5)) + words[j:])


def _swap(rng: random.Random, words: list[str]) -> str:
    i, j = rng.randrange(len(words)), rng.randrange(len(words))
    swapped = list(words)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    return " ".join(swapped)


def _cut(rng: random.Random, words: list[str]) -> str:
    return " ".join(words[: rng.randrange(len(words))])


def _splice(rng: random.Random, words: list[str]) -> str:
    other = _answer(rng).split(" ")
    return " ".join(words[: rng.randrange(len(words) + 1)] + other[rng.randrange(len(other)) :])


def _join(rng: random.Random, words: list[str]) -> str:
    return " ".join(words) + rng.choice((" ", "")) + _answer(rng)


def _soup(rng: random.Random, words: list[str]) -> str:
    return " ".join(_word(rng) for _ in range(rng.randrange(1, 20)))


BREAKS: tuple[Callable[[random.Random, list[str]], str], ...] = (
    _drop, _insert, _replace, _repeat, _swap, _cut, _splice, _join, _soup,
)  # fmt: skip
