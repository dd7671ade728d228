"""How similar the two responses of a pair look to a model: pure functions, one a measure.

Knows tensors and token ids; nothing about models, batches or files. For every measure a higher value means more
similar responses, and so more displacement to expect. Legend: B pairs, D hidden.

Razin, Malladi, Bhaskar, Chen, Arora, Hanin, "Unintentional Unalignment: Likelihood Displacement in Direct Preference
Optimization", ICLR 2025, https://arxiv.org/abs/2410.08847, is the source of all but ``response_cosine``.
"""

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein
from torch import Tensor
from torch.nn.functional import cosine_similarity


def ches(chosen_sums: Tensor, rejected_sums: Tensor) -> Tensor:
    """Centered hidden embedding similarity, <S+, S- - S+>, (B,) (Definition 2).

    S is the sum of the states that predict a response, from the last prompt token to its second-to-last token. The
    two inner products of the definition are nearly equal; of their difference this form keeps every digit.

    Args:
        chosen_sums: (B, D) S+, float32 or wider.
        rejected_sums: (B, D) S-.
    """
    return (chosen_sums * (rejected_sums - chosen_sums)).sum(-1)


def ln_ches(chosen_sums: Tensor, rejected_sums: Tensor, chosen_lengths: Tensor, rejected_lengths: Tensor) -> Tensor:
    """Length-normalised CHES: that of mean states in the place of sums, (B,) (Definition 3).

    Args:
        chosen_sums: (B, D) S+.
        rejected_sums: (B, D) S-.
        chosen_lengths: (B,) states summed in S+.
        rejected_lengths: (B,) states summed in S-.
    """
    return ches(chosen_sums / chosen_lengths.unsqueeze(-1), rejected_sums / rejected_lengths.unsqueeze(-1))


def last_hidden(chosen_last: Tensor, rejected_last: Tensor) -> Tensor:
    """Inner product of the states at the last token of each response, (B,) (Section 5).

    Args:
        chosen_last: (B, D) state at the last response token, end-of-sequence not counted.
        rejected_last: (B, D) of the other response.
    """
    return (chosen_last * rejected_last).sum(-1)


def edit_similarity(chosen: Sequence[int], rejected: Sequence[int]) -> float:
    """Minus the edit distance of two responses over the length of the longer one, from -1 to 0 (Section 5).

    Args:
        chosen: token ids, end-of-sequence not counted.
        rejected: token ids of the other response.
    """
    longest = max(len(chosen), len(rejected))
    return -Levenshtein.distance(chosen, rejected) / longest if longest else 0.0


def response_cosine(chosen_means: Tensor, rejected_means: Tensor) -> Tensor:
    """Cosine of the mean states of two responses, each read alone, (B,).

    Zhang et al. 2024, REAL, https://arxiv.org/abs/2409.17169.

    Args:
        chosen_means: (B, D) mean state over the response's tokens, end-of-sequence not counted, without the prompt.
        rejected_means: (B, D) of the other response.
    """
    return cosine_similarity(chosen_means, rejected_means, dim=-1)
