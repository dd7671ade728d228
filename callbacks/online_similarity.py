"""Similarity of the two responses of a pair, read off the states that training computes anyway.

CHES and its length-normalised form: Razin et al., ICLR 2025, https://arxiv.org/abs/2410.08847, Definitions 2 and 3.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lit_pref.errors import ConfigError
from lit_pref.similarity import ches, ln_ches
from objectives import PairScores

from .example_metrics import ExampleMetrics


def online_similarity(policy: PairScores) -> dict[str, Tensor]:
    """CHES and length-normalised CHES of B pairs, (B,) each; ConfigError where scores carry no sums of states."""
    chosen, rejected = policy.chosen, policy.rejected
    if chosen.hidden_sums is None or rejected.hidden_sums is None:
        raise ConfigError(
            "the OnlineSimilarity callback reads the sums of hidden states that come with the policy's scores, but "
            "these scores carry none (hidden_sums is None).\n"
            "  Fix: remove the callback, or let the step return what lit_pref.scoring.score gives."
        )
    sums = chosen.hidden_sums, rejected.hidden_sums
    return {"online": ches(*sums), "online_ln": ln_ches(*sums, chosen.lengths, rejected.lengths)}


class OnlineSimilarity(ExampleMetrics):
    """Logs ``ches/online``, ``ches/online_ln`` (means) and ``ches/online_ln_max`` at no forward pass of their own.

    These are online values: within an epoch the policy moves, so each pair is measured by the weights of the step that
    trained on it, with dropout where it is on. They follow a run; they are not the scores of all pairs under one model,
    which ``Ledger`` and ``lit-pref score`` give. Validation values are those of one model, on validation pairs.

    Args:
        train: measure training batches too.
    """

    def columns(self, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
        return online_similarity(outputs["policy"])

    def scalars(self, columns: dict[str, Tensor]) -> dict[str, float]:
        return {
            "ches/online": float(columns["online"].mean()),
            "ches/online_ln": float(columns["online_ln"].mean()),
            "ches/online_ln_max": float(columns["online_ln"].max()),
        }
