"""First tokens of words of like meaning, and the mass on them. Knows words and probabilities; nothing about models.

A token belongs to a group where a word of the group, alone or behind a space, begins with it as the tokenizer splits
it. Blanks belong to none, nor do tokens that words of two groups begin with.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from transformers import PreTrainedTokenizerBase

from . import world
from .errors import ConfigError
from .world.names import PREFIX

Groups = dict[str, list[str]]

#: Where the mass of a prompt can lie: the five add up to 1.
PARTS = ("chosen", "rejected", "benign", "catastrophic", "other")


def read_groups(groups: str | Mapping[str, Sequence[str]] | None) -> Groups | None:
    """Name -> words, from those or from the name of a tiny world, such as "world:agreement".

    Raises:
        ConfigError: there is no such world, or fewer than two groups, or one without words.
    """
    if isinstance(groups, str):
        if not world.is_world(groups):
            raise ConfigError(
                f"groups {groups!r} names no tiny world.\n  Fix: give world:agreement, or {{name: [word, ...], ...}}."
            )
        return world.groups(groups.removeprefix(PREFIX))
    if groups is None:
        return None
    found = {name: list(words) for name, words in groups.items()}
    if len(found) < 2 or not all(word.strip() for words in found.values() for word in words or [""]):
        raise ConfigError(
            f"groups has {len(found)} groups: {', '.join(found)}.\n"
            "  Fix: give at least two, each with a list of words such as {yes: [Yes, Sure], no: [No, Never]}."
        )
    return found


def grouped_tokens(groups: Groups, tokenizer: PreTrainedTokenizerBase) -> dict[int, int]:
    """Token -> number of its group, in the order of ``groups``; tokens that are in no group are left out.

    Args:
        groups: name -> words.
        tokenizer: splits them.
    """
    found: dict[int, set[int]] = {}
    for number, words in enumerate(groups.values()):
        for text in (form for word in words for form in (word, f" {word}")):
            ids = tokenizer.encode(text, add_special_tokens=False)
            spoken = [token for token in ids if str(tokenizer.decode([token])).strip()]
            if spoken:
                found.setdefault(spoken[0], set()).add(number)
    return {token: min(numbers) for token, numbers in sorted(found.items()) if len(numbers) == 1}


def mass_parts(probs: Tensor, chosen: Tensor, rejected: Tensor, groups: Mapping[int, int]) -> Tensor:
    """Mass on the parts of ``PARTS``, (M, 5): of each prompt they add up to 1.

    The chosen and the rejected token are parts of their own. Of the others, tokens of the chosen one's group are
    benign, tokens of other groups catastrophic; where the chosen token is of no group, all are other.

    Args:
        probs: (M, V) of the first response token.
        chosen: (M,) first tokens of chosen responses.
        rejected: (M,) first tokens of rejected responses; where it is the same token, its mass counts as chosen.
        groups: token -> number of its group.
    """
    table = torch.zeros(probs.shape[-1], dtype=torch.int64)  # (V,), 0 for no group
    known_tokens = [token for token in groups if token < len(table)]
    table[known_tokens] = torch.tensor([groups[token] + 1 for token in known_tokens], dtype=torch.int64)
    table = table.to(probs.device)
    both = torch.stack([chosen, rejected], -1)  # (M, 2)
    own = probs.gather(-1, both) * torch.stack([torch.ones_like(chosen), chosen != rejected], -1)
    rest = probs.scatter(-1, both, 0.0)
    grouped = rest @ one_hot(table, max(groups.values(), default=-1) + 2).to(rest)  # (M, groups + 1)
    group = table[chosen].unsqueeze(-1)  # (M, 1)
    known = group > 0
    benign = grouped.gather(-1, group) * known
    catastrophic = grouped.scatter(-1, group, 0.0)[:, 1:].sum(-1, keepdim=True) * known
    other = torch.where(known, grouped[:, :1], rest.sum(-1, keepdim=True))
    return torch.cat([own, benign, catastrophic, other], -1)
