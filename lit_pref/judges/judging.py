"""Judging many items with a cache. Knows nothing of how a judge judges, or of what the verdicts are for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .base import Item, Judge, Verdict
from .cache import VerdictCache


def judge_items(
    judge: Judge,
    items: Sequence[Item],
    cache: VerdictCache | None = None,
    batch_size: int = 64,
    stop: Callable[[], bool] | None = None,
    advance: Callable[[int], None] | None = None,
) -> list[Verdict]:
    """A verdict for each item, in order. Equal items are asked once; what the cache holds is not asked at all.

    The judge meets the longest items first: a model reads items of like lengths with little padding.

    Args:
        judge: asked for what is missing.
        items: any number.
        cache: written after each batch, so that a kill loses one batch at most.
        batch_size: items between two writes.
        stop: asked before each batch, so that a signal ends the judging; what is left has the verdict `error`.
        advance: told how many more items are done.
    """
    found: dict[Item, Verdict] = {}
    different = list(dict.fromkeys(items))
    if cache is not None:
        known = cache.get(judge, different)
        found = {item: verdict for item, verdict in zip(different, known, strict=True) if verdict is not None}
    missing = [item for item in different if item not in found]
    if advance is not None:
        advance(sum(item in found for item in items))
    copies: dict[Item, int] = {}
    for item in items:
        copies[item] = copies.get(item, 0) + 1
    for batch in _of_like_lengths(missing, batch_size):
        if stop is not None and stop():
            break
        verdicts = judge.judge(batch)
        if cache is not None:
            cache.put(judge, batch, verdicts)
        found.update(zip(batch, verdicts, strict=True))
        if advance is not None:
            advance(sum(copies[item] for item in batch))
    left = judge.verdict("error", reason="stopped before it was judged")
    return [found.get(item, left) for item in items]


def _of_like_lengths(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Batches from the longest items to the shortest; within a batch they keep their order."""
    order = sorted(range(len(items)), key=lambda i: -len(items[i].prompt) - len(items[i].response))
    for start in range(0, len(order), size):
        yield [items[i] for i in sorted(order[start : start + size])]
