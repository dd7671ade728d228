"""Many pairs as flat bytes: cheap to hand from process to process and to write. Knows nothing about text or folders."""

from array import array
from collections.abc import Iterable
from typing import NamedTuple

from ..batch import Pair


class Block(NamedTuple):
    """Pairs that follow each other.

    Attributes:
        tokens: ids of prompt, chosen and rejected of each pair, int32.
        lengths: (3n,) tokens of prompt, chosen and rejected of each, int64.
        rows: (n,) row numbers, int64.
        rewards: (2n,) of chosen and rejected, NaN where there is none, float32.
        names: row number -> id, where the data name their rows.
        labels: of each pair, where the data have them.
    """

    tokens: bytes
    lengths: bytes
    rows: bytes
    rewards: bytes
    names: dict[int, str]
    labels: list[tuple[str | None, ...]]


def packed(pairs: Iterable[Pair]) -> Block:
    """The block of these pairs."""
    tokens, lengths, rows, rewards = array("i"), array("q"), array("q"), array("f")
    names: dict[int, str] = {}
    labels: list[tuple[str | None, ...]] = []
    for pair in pairs:
        for ids in (pair.prompt, pair.chosen, pair.rejected):
            tokens.extend(array("i", ids))
            lengths.append(len(ids))
        rows.append(pair.row)
        rewards.extend(float("nan") if r is None else r for r in (pair.chosen_reward, pair.rejected_reward))
        if pair.id is not None:
            names[pair.row] = pair.id
        if pair.labels:
            labels.append(pair.labels)
    return Block(tokens.tobytes(), lengths.tobytes(), rows.tobytes(), rewards.tobytes(), names, labels)
