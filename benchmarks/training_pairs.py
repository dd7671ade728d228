"""Pairs that training is timed on: read once by lit-pref, put in order, written as ids. Shared by its benchmarks.

What is written is a folder of lit-pref's own cache of tokenised pairs, so that both sides read the very same ids.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lit_pref.batch import Pair
from lit_pref.data.cache import CachedPairs, write
from lit_pref.data.datamodule import PreferenceData

MAX_LENGTH = 512
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
HH = str(SHARED / "hh-harmless-base-test.jsonl.gz")
TOKENIZER = str(SHARED / "smollm2-135m-instruct")
#: Of the second kind of data: prompts are at most this long, and responses are joined out of this many.
SHORT_PROMPT, JOINED = 64, 8


def read_pairs(path: str, tokenizer: str) -> list[Pair]:
    """All usable pairs, tokenised as for training, at most 512 tokens each."""
    data = PreferenceData(path, tokenizer=tokenizer, val_size=0, max_length=MAX_LENGTH, on_bad_row="drop")
    data.setup("predict")
    assert data.train is not None
    return list(data.train)


def long_responses(pairs: Sequence[Pair]) -> list[Pair]:
    """A second kind of data: short prompts, each with responses as long as those of eight pairs together.

    No sensible text, but its lengths are those of instructions with long answers, where sharing prompts saves little.
    """
    made = []
    for i, pair in enumerate(pairs):
        if len(pair.prompt) > SHORT_PROMPT:
            continue
        others = [pairs[(i + j) % len(pairs)] for j in range(JOINED)]
        chosen, rejected = ([token for other in others for token in getattr(other, side)]
                            for side in ("chosen", "rejected"))  # fmt: skip
        room = MAX_LENGTH - len(pair.prompt)
        made.append(pair._replace(chosen=chosen[:room], rejected=rejected[:room]))
    return made


def batches_of(pairs: Sequence[Pair], size: int, count: int, grouped: bool) -> list[list[Pair]]:
    """``count`` batches to time, behind one more that is dropped.

    Grouped ones hold pairs whose longer rows are nearly as long as each other, which leaves a padded layout as little
    padding as sorting can; they stand at evenly spaced quantiles, behind one of short pairs. Others are drawn.
    """
    if len(pairs) < size * (count + 1):
        raise SystemExit(f"{len(pairs)} pairs are too few for {count + 1} batches of {size}; lower --steps or --pairs")
    if not grouped:
        drawn = random.Random(0).sample(list(pairs), size * (count + 1))
        return [drawn[start : start + size] for start in range(0, len(drawn), size)]
    ordered = sorted(pairs, key=_width)
    room = len(ordered) - size
    places = [0.1, *((i + 0.5) / count for i in range(count))]
    return [ordered[round(place * room) :][:size] for place in places]


def equal_pairs(count: int, length: int, prompt_share: float) -> list[Pair]:
    """Pairs of random tokens whose two rows are ``length`` long, of which the prompt has a share."""
    generator = torch.Generator().manual_seed(0)
    prompt = min(max(round(length * prompt_share), 1), length - 1)

    def ids(size: int) -> Any:
        return torch.randint(2**30, (size,), generator=generator).tolist()

    return [Pair(row, ids(prompt), ids(length - prompt), ids(length - prompt)) for row in range(count)]


def write_pairs(folder: Path, batches: Sequence[Sequence[Pair]], vocabulary: int) -> list[list[Pair]]:
    """Write batch after batch; rows are numbered anew, ids beyond the vocabulary fold back into it.

    Returns:
        The batches as they were written.
    """
    written, row = [], 0
    for batch in batches:
        written.append([_renamed(pair, row + i, vocabulary) for i, pair in enumerate(batch)])
        row += len(batch)
    write(folder, [pair for batch in written for pair in batch], {})
    return written


def stored_pairs(folder: Path) -> CachedPairs:
    return CachedPairs(folder)


def _width(pair: Pair) -> int:
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def _renamed(pair: Pair, row: int, vocabulary: int) -> Pair:
    prompt, chosen, rejected = (
        [token % vocabulary for token in ids] for ids in (pair.prompt, pair.chosen, pair.rejected)
    )
    return Pair(row, prompt, chosen, rejected)
