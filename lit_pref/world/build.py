"""Writes one half of the world into a folder: a model with its tokenizer, and preference files.

Knows nothing about where the folder is, or about names and defaults.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lit_pref.world import agreement, onpolicy, request
from lit_pref.world.judge import train_judge
from lit_pref.world.names import JUDGE
from lit_pref.world.pretraining import apart, pretrain
from lit_pref.world.sampling import sample
from lit_pref.world.text import PairRow
from lit_pref.world.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

EXAMPLES = {"agreement": agreement.example, "request": request.example}
# Enough for the model to follow the scale: agreement is read off one word, a refusal is a whole sentence.
STEPS = {"agreement": 400, "request": 700}
VOCABULARY_LINES = 20_000  # so many that no word of the grammar is missing, whatever the seed


def build(half: str, seed: int, folder: Path) -> None:
    """Fill `folder` with `model/` and `<pairs>-<split>.jsonl`; the same seed gives the same bytes.

    The judge has a model only.
    """
    tokenizer = tokenizer_of("request" if half == JUDGE else half)
    with apart(seed):
        if half == JUDGE:
            judge = train_judge(tokenizer, seed)
            with quiet():
                judge.save_pretrained(folder / "model")
            tokenizer.save_pretrained(folder / "model")
            return
        title = f"Pre-training tiny world ({half}, seed {seed})"
        model = pretrain(tokenizer, EXAMPLES[half], STEPS[half], seed, title)
        with quiet():
            model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        files = agreement_files(seed) if half == "agreement" else request_files(model, tokenizer, seed)
    for stem, rows in files.items():
        lines = [json.dumps(row) + "\n" for row in rows]
        (folder / f"{stem}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


def tokenizer_of(half: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a half."""
    rng = random.Random("vocabulary")  # no seed: token ids are the same in every world
    return train_tokenizer("".join(EXAMPLES[half](rng)) for _ in range(VOCABULARY_LINES))


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar for writing half a megabyte."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def agreement_files(seed: int) -> dict[str, list[PairRow]]:
    """Rows by file stem."""
    return {f"{name}-{split}": rows for name in agreement.PAIRS for split, rows in agreement.pairs(name, seed).items()}


def request_files(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, seed: int) -> dict[str, list[PairRow]]:
    """Rows by file stem; both data sets order the same samples. Validation pairs answer the test prompts."""
    files: dict[str, list[PairRow]] = {}
    for split, source in (("train", "train"), ("validation", "test")):
        prompts = request.prompts(source)
        first, second = sample(model, tokenizer, prompts), sample(model, tokenizer, prompts)
        for name in onpolicy.ORDERS:
            files[f"{name}-{split}"] = onpolicy.rows(name, split, prompts, first, second, seed)
    return files
