"""Which token comes next: settings of sampling, and draws that no neighbour can change. Knows nothing about models.

A draw takes the token with the highest sum of log-probability and Gumbel noise. The noise is a function of seed,
prompt, sample, step and token alone: no state goes from one draw to the next, so batches, their order and the number
of processes cannot matter. It is also hardly sensitive to rounding: where two computations of one distribution differ
by a total variation of d, the draws differ with a probability of at most 2d, and no way to draw can go below d.
Legend: B rows, V vocabulary.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ConfigError

# SplitMix64 (Steele, Lea, Flood 2014), a counter-based generator; its constants as signed numbers.
_STEP, _FIRST, _SECOND = (n - (1 << 64) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn.

    Attributes:
        max_new_tokens: most tokens of a response; one that has not ended by then is cut.
        temperature: divides logits; 0 takes the likeliest token each time.
        top_p: draw among the fewest tokens that together are this likely; 1 is all.
        top_k: draw among this many likeliest tokens; 0 is all.
        seed: of all draws.
        samples: responses to each prompt.
        batch_size: most responses that are written at the same time; no draw depends on it.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    samples: int = 1
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name, least in (("max_new_tokens", 1), ("top_k", 0), ("samples", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"sampling.{name} is {getattr(self, name)}, but must be at least {least}")
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"sampling.temperature is {self.temperature}, but must be 0 (no chance) or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"sampling.top_p is {self.top_p}, but must be above 0 and at most 1 (all tokens)")
        if self.samples > 1 and self.temperature == 0:
            raise ConfigError(
                f"sampling.samples is {self.samples}, but at temperature 0 all of them would be the same.\n"
                "  Fix: raise sampling.temperature, or ask for one sample."
            )


def key(seed: int, prompt: int, sample: int, step: int) -> int:
    """64 bits that name one draw."""
    name = f"{seed}/{prompt}/{sample}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little", signed=True)


def choose(logits: Tensor, keys: Sequence[int], sampling: Sampling, wide: torch.dtype = torch.float64) -> Tensor:
    """The next token of each row, (B,); -1 where logits are not finite numbers.

    Args:
        logits: (B, V).
        keys: (B,) one for each draw, from ``key``.
        sampling: temperature, top-p, top-k.
        wide: precision of the sums.
    """
    scores = logits.to(wide)
    if sampling.temperature:
        scores = allowed(scores / sampling.temperature, sampling)
        scores = scores - waiting_times(keys, scores).log_()
    best, tokens = scores.max(-1)  # the lowest token of equals on the CPU
    return tokens.masked_fill(~best.isfinite(), -1)


def allowed(scores: Tensor, sampling: Sampling) -> Tensor:
    """Scores (B, V) with minus infinity at tokens that top-k and top-p leave out; k first, as transformers does."""
    if 0 < sampling.top_k < scores.shape[-1]:
        least = scores.topk(sampling.top_k).values[:, -1:]  # (B, 1); what equals the last one stays
        scores = scores.masked_fill(scores < least, -math.inf)
    if sampling.top_p < 1:
        probs, order = scores.softmax(-1).sort(dim=-1, descending=True, stable=True)
        before = probs.cumsum(-1) - probs  # how likely are all tokens that are likelier than this one
        out = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order, before >= sampling.top_p)
        scores = scores.masked_fill(out, -math.inf)
    return scores


def waiting_times(keys: Sequence[int], like: Tensor) -> Tensor:
    """Numbers from the exponential distribution, (B, V), shaped as ``like``; minus their logarithm is Gumbel noise."""
    start = torch.tensor(keys, dtype=torch.int64, device=like.device)  # (B,)
    token = torch.arange(1, like.shape[-1] + 1, device=like.device)  # (V,)
    bits = start[:, None] + token * _STEP  # (B, V) 64 bits; what overflows is dropped
    bits = (bits ^ _shifted(bits, 30)).mul_(_FIRST)
    bits = (bits ^ _shifted(bits, 27)).mul_(_SECOND)
    bits ^= _shifted(bits, 31)
    # 53 bits, to the middle of their interval: neither 0 nor, in double precision, 1.
    uniform = _shifted(bits, 11).to(like.dtype).add_(0.5).mul_(2.0**-53)
    return uniform.neg_().log1p_().neg_()


def _shifted(bits: Tensor, count: int) -> Tensor:
    """Shifted to the right with zeros, as if the numbers had no sign."""
    return (bits >> count).bitwise_and_((1 << (64 - count)) - 1)
