"""A word-level tokenizer for the world's text. Knows nothing about grammar, models or files.

A word keeps the space before it (" you"), the newline stands alone, and decoding is plain concatenation; so
decoding is lossless, and a prompt and a response tokenised apart give the same ids as their text at once.
There is no BOS token: the first word of a prompt is always given, never predicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
WORD = r" ?\w+|\s|[^\w\s]"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is every word of `texts`, most frequent first."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Split(Regex(WORD), behavior="isolated")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in split.pre_tokenize_str(text))
    words = sorted(counts, key=lambda word: (-counts[word], word))  # ties by spelling, so ids depend on text only
    vocabulary = {word: i for i, word in enumerate([PAD, EOS, UNK, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="right",
        model_max_length=128,
        clean_up_tokenization_spaces=False,
    )
