"""Likelihood displacement: how far the log-probabilities of chosen and rejected responses moved from the reference.

Razin, Malladi, Bhaskar, Chen, Arora, Hanin, "Unintentional Unalignment: Likelihood Displacement in Direct Preference
Optimization", ICLR 2025, https://arxiv.org/abs/2410.08847, Definition 1.
"""

from collections.abc import Mapping
from math import ceil, isfinite
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from lit_pref.console import say
from lit_pref.errors import ConfigError
from lit_pref.references import NoReference
from objectives import PairScores

from .example_metrics import ExampleMetrics

#: Changes below this, in nats, are too small for a sentence with one decimal.
SHOWN = 0.05


def displacement(policy: PairScores, reference: PairScores) -> dict[str, Tensor]:
    """Changes of log-probability against the reference; name -> (B,), nats or nats per token.

    Reference-free objectives have the same zero as DPO: the reference is the initial policy for all of them.
    """
    chosen = policy.chosen.logps - reference.chosen.logps
    rejected = policy.rejected.logps - reference.rejected.logps
    return {
        "chosen": chosen,
        "rejected": rejected,
        "chosen_per_token": chosen / policy.chosen.lengths,
        "rejected_per_token": rejected / policy.rejected.lengths,
        "margin": chosen - rejected,
    }


def displacement_scalars(columns: dict[str, Tensor]) -> dict[str, float]:
    """Means over examples of every column, and of all pairs: the shares whose chosen response fell
    (``share_displaced``) and whose margin grew (``accuracies``), and the mean chosen change of the tenth of pairs
    that fell most (``worst_decile``). NaN in, NaN out."""
    chosen = columns["chosen"]
    worst = chosen.sort().values[: ceil(len(chosen) / 10)]
    return {
        **{name: float(values.mean()) for name, values in columns.items() if name != "row"},
        "share_displaced": _share(chosen < 0, chosen),
        "accuracies": _share(columns["margin"] > 0, chosen),
        "worst_decile": float("nan") if chosen.isnan().any() else float(worst.mean()),
    }


def displacement_sentences(scalars: dict[str, float], pairs: int) -> str:
    """What happened to ``pairs`` pairs, in words that a person can quote."""
    chosen, rejected, margin = (scalars[name] for name in ("chosen", "rejected", "margin"))
    if not all(map(isfinite, (chosen, rejected))):
        return f"Over {pairs:,} validation pairs, log-probabilities are no longer finite numbers: the run diverged."
    lines = [
        f"Over {pairs:,} validation pairs, the chosen log-probability {_moved(chosen)} on average; it fell on "
        f"{scalars['share_displaced']:.0%} of the pairs; in the tenth that fared worst it "
        f"{_moved(scalars['worst_decile'])}.",
        f"The rejected log-probability {_moved(rejected)}; the margin {_moved(margin)}.",
    ]
    if chosen <= -SHOWN and margin >= SHOWN:
        lines.append("This is likelihood displacement: the margin grew while the chosen responses became less likely.")
    return "\n".join(lines)


class Displacement(ExampleMetrics):
    """Logs ``displacement/*`` on training batches and on all validation pairs, and closes the run with sentences.

    Args:
        train: measure training batches too; scores the reference on them even where the objective does not.
    """

    def __init__(self, train: bool = True) -> None:
        super().__init__(train)
        self.sentences = ""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if isinstance(pl_module.reference, NoReference):
            raise ConfigError(
                "the Displacement callback measures against a reference, but model.reference is NoReference.\n"
                "  Fix: remove the callback, or set model.reference to lit_pref.references.FrozenModel."
            )
        if self.train:
            pl_module.watch_reference = True  # type: ignore[assignment]

    def columns(self, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
        return displacement(outputs["policy"], outputs["initial"])

    def scalars(self, columns: dict[str, Tensor]) -> dict[str, float]:
        return {f"displacement/{name}": value for name, value in displacement_scalars(columns).items()}

    def measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule, columns: dict[str, Tensor]) -> None:
        self.sentences = displacement_sentences(displacement_scalars(columns), len(columns["row"]))
        if trainer.testing:
            self.sentences = self.sentences.replace("validation pairs", "test pairs")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Said last, when a progress bar has been taken down."""
        if self.sentences:
            say(self.sentences)


def _share(condition: Tensor, values: Tensor) -> float:
    return float("nan") if values.isnan().any() else float(condition.double().mean())


def _moved(nats: float) -> str:
    if abs(nats) < SHOWN:
        return f"moved by less than {SHOWN} nats"
    return f"{'rose' if nats > 0 else 'fell'} by {abs(nats):.1f} nats"
