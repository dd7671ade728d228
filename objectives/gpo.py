"""GPO: any convex loss of the margin.

Tang, Guo, Zheng, Calandriello, Munos, Rowland, Richemond, Valko, Ávila Pires, Piot, ICML 2024,
https://arxiv.org/abs/2402.05749
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from .base import Objective, ObjectiveOutput, PairScores, log_ratios, require

#: Where the exponential goes on as its tangent, so that no margin overflows.
LARGEST_EXPONENT = 50.0


def exponential(margins: Tensor) -> Tensor:
    """exp(-z), continued along its tangent where -z exceeds ``LARGEST_EXPONENT``: convex and finite."""
    beyond = F.relu(-margins - LARGEST_EXPONENT)
    return torch.exp((-margins).clamp(max=LARGEST_EXPONENT)) + beyond * math.exp(LARGEST_EXPONENT)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "logistic": lambda margins: -F.logsigmoid(margins),
    "hinge": lambda margins: F.relu(1 - margins),
    "squared": lambda margins: (1 - margins) ** 2,
    "exponential": exponential,
    "truncated_quadratic": lambda margins: F.relu(1 - margins) ** 2,
    "savage": lambda margins: torch.sigmoid(-margins) ** 2,
}


def gpo_losses(log_ratio_margins: Tensor, beta: float, function: str) -> Tensor:
    """f(βΔ)

    Args:
        log_ratio_margins: (B,) Δ, nats.
        beta: β, per nat.
        function: a key of ``FUNCTIONS``.

    Returns:
        (B,) losses.
    """
    return FUNCTIONS[function](beta * log_ratio_margins)


class GPO(Objective):
    """Generalized preference optimization: DPO, IPO and the hinge as members of one family, and their neighbours.

    ``logistic`` log(1 + exp(-z)) is DPO; ``hinge`` max(0, 1 - z) is ``Hinge``; ``squared`` (1 - z)² is β² times IPO
    with a τ of β/2; ``exponential`` exp(-z); ``truncated_quadratic`` max(0, 1 - z)²; ``savage`` 1/(1 + exp(z))², the
    one that is not convex.

    Args:
        beta: per nat; positive.
        function: ``logistic``, ``hinge``, ``squared``, ``exponential``, ``truncated_quadratic`` or ``savage``.
    """

    def __init__(
        self,
        beta: float = 0.1,
        function: Literal[
            "logistic", "hinge", "squared", "exponential", "truncated_quadratic", "savage"
        ] = "truncated_quadratic",
    ) -> None:
        super().__init__()
        require(0 < beta < float("inf"), "beta", beta, "a positive number")
        require(function in FUNCTIONS, "function", function, f"one of {', '.join(FUNCTIONS)}")
        self.beta = beta
        self.function = function

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        chosen, rejected = log_ratios(policy, reference)  # (B,), (B,)
        losses = gpo_losses(chosen - rejected, self.beta, self.function)
        return ObjectiveOutput(losses, self.beta * chosen.detach(), self.beta * rejected.detach())
