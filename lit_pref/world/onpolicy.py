"""Makes preference rows out of two sampled answers to each request. Knows nothing about models.

Designed: a refusal beats compliance, and of two refusals the softer wins (or, in the other data set, the
blunter). How many pairs of each class there are is not designed: it is what the model happened to say.
"""

import random
from collections.abc import Sequence

from lit_pref.world.request import REFUSALS, STYLES, style_of
from lit_pref.world.text import PairRow

TWO_REFUSALS, TWO_COMPLIANCES, MIXED = "two refusals", "two compliances", "one of each"
# Best style first. Two answers of one style are told apart by a coin.
ORDERS = {"soft": (*REFUSALS, "comply"), "blunt": (*reversed(REFUSALS), "comply")}


def rows(
    name: str, split: str, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], seed: int
) -> list[PairRow]:
    """Rows of data set `name` (soft, blunt); equal or garbled answers hold no preference and are left out."""
    coin = random.Random(f"{name}-{split}-{seed}")
    found: list[PairRow] = []
    for i, (prompt, a, b) in enumerate(zip(prompts, first, second, strict=True)):
        styles = style_of(a), style_of(b)
        if a == b or styles[0] is None or styles[1] is None:
            continue
        chosen, rejected = (a, b) if _first_wins(styles[0], styles[1], ORDERS[name], coin) else (b, a)
        found.append(
            {
                "id": f"{name}-{split}-{i:04d}",
                "prompt": prompt,
                "chosen": chosen,
                "rejected": rejected,
                "pair_class": pair_class(styles[0], styles[1]),
            }
        )
    return found


def pair_class(first: str, second: str) -> str:
    """What kind of pair two styles make."""
    assert first in STYLES
    assert second in STYLES
    compliances = (first == "comply") + (second == "comply")
    return (TWO_REFUSALS, MIXED, TWO_COMPLIANCES)[compliances]


def _first_wins(first: str, second: str, order: Sequence[str], coin: random.Random) -> bool:
    if first == second:
        return coin.random() < 0.5
    return order.index(first) < order.index(second)
