"""The two shapes of text that both halves produce. Knows nothing about what the text says."""

from typing import NamedTuple

PairRow = dict[str, str]  # one line of a preference file: id, prompt, chosen, rejected (and pair_class)


class Example(NamedTuple):
    """One line of pre-training text. The prompt ends in a newline, so nothing merges across the boundary."""

    prompt: str
    response: str
