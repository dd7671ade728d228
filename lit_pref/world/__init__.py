"""The tiny world: a language model, a tokenizer and preference data, made from a seed without a download.

Designed: the text. Answers (and refusals) lie on an ordinal scale, and that order is what lets the direction
from a rejected to a chosen answer point beyond the chosen one. Emergent: the embeddings, whether the chosen
answer falls in preference training, and which answers rise instead. It illustrates a mechanism; it is no
evidence about large models.

Importing this package loads neither torch nor transformers.
"""

from functools import partial
from pathlib import Path

from lit_pref.errors import ConfigError
from lit_pref.world import agreement, request
from lit_pref.world.names import PREFIX, SPLITS, all_names, parse
from lit_pref.world.request import style_of

__all__ = ["all_names", "groups", "is_world", "prompts", "resolve", "style_of"]


def is_world(name: str) -> bool:
    """Whether `name` claims to be of the tiny world; `resolve` says whether it exists."""
    return name.startswith(PREFIX)


def resolve(name: str, split: str = "train") -> Path:
    """The model folder or the JSONL file behind a name, built on first use.

    Args:
        name: `world:agreement`, `world:request`, `world:judge` (a classifier), or data such as
            `world:agreement@3/no-over-never` (seed 3).
        split: `train` or `validation`, for data.
    """
    half, seed, pairs = parse(name)
    if split not in SPLITS:
        raise ConfigError(f"The tiny world has no split {split!r}; it has {' and '.join(SPLITS)}.")
    from lit_pref.world.build import build
    from lit_pref.world.cache import built

    folder = built(f"{half}-seed{seed}", partial(build, half, seed))
    return folder / "model" if pairs is None else folder / f"{pairs}-{split}.jsonl"


def groups(half: str) -> dict[str, list[str]]:
    """Answers by meaning: words of `agree` and `disagree`, or how a `comply`, `soft`, ... response begins."""
    parse(PREFIX + half)
    source = agreement.GROUPS if half.startswith("agreement") else request.GROUPS
    return {group: list(words) for group, words in source.items()}


def prompts(half: str, split: str) -> list[str]:
    """The request half's `train` and `test` requests (harmful, none in common), or its harmless `safe` ones."""
    if parse(PREFIX + half).half != "request":
        raise ValueError(f"Only the request half has prompts of its own, {half!r} has preference data only.")
    return request.prompts(split)
