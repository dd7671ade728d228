"""What a model does to the products of its output embedding before they are logits."""

from typing import NamedTuple

import torch
from torch import Tensor


class LogitRule(NamedTuple):
    """What a model does to its output embedding's products x: ``scale * x``, then ``cap * tanh(that / cap)``.

    Attributes:
        scale: as of Cohere, Granite.
        cap: as of Gemma 2; None where there is none.
    """

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, products: Tensor) -> Tensor:
        scaled = products * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap


PLAIN = LogitRule()
