"""Objectives made of objectives."""

import torch
from torch import Tensor, nn

from .base import Objective, ObjectiveOutput, PairScores, require


class WeightedSum(Objective):
    """Σ wᵢ·lossesᵢ, for example DPO + 0.1 SFT against displacement (Razin et al. 2025, section 6).

    The rewards reported are those of the first objective: a sum of rewards on different scales means nothing.

    Args:
        objectives: the terms, the leading one first; at least one.
        weights: one finite number a term, in the same order.
    """

    def __init__(self, objectives: list[Objective], weights: list[float]) -> None:
        super().__init__()
        require(len(objectives) > 0, "objectives", [], "at least one objective")
        require(
            len(weights) == len(objectives),
            "weights",
            weights,
            f"{len(objectives)} numbers, one an objective",
        )
        require(all(map(torch.isfinite, torch.tensor(weights))), "weights", weights, "finite numbers")
        self.objectives = nn.ModuleList(objectives)
        self.weights = list(weights)
        self.needs_reference = any(objective.needs_reference for objective in objectives)
        self.needs_rewards = any(objective.needs_rewards for objective in objectives)
        self.needs_tokens = any(objective.needs_tokens for objective in objectives)
        self.needs_gradient_norms = any(objective.needs_gradient_norms for objective in objectives)
        self.needs_mismatched = any(objective.needs_mismatched for objective in objectives)
        self.couples_pairs = any(objective.couples_pairs for objective in objectives)

    def unusable_rewards(self, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, str]:
        answers = [objective.unusable_rewards(chosen, rejected) for objective in self.objectives]  # type: ignore[operator]
        return torch.stack([unusable for unusable, _ in answers]).any(0), "; ".join(rule for _, rule in answers if rule)

    def forward(self, policy: PairScores, reference: PairScores | None) -> ObjectiveOutput:
        for objective in self.objectives:
            objective.progress = self.progress  # type: ignore[assignment]
        outputs = [objective(policy, reference) for objective in self.objectives]
        losses = torch.stack(
            [weight * output.losses for weight, output in zip(self.weights, outputs, strict=True)]
        ).sum(0)  # (B,)
        return outputs[0]._replace(losses=losses)
