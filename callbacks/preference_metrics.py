"""Loss, rewards and log-probabilities of every stage, under the names that users of TRL know."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from objectives import ObjectiveOutput, PairScores

from .example_metrics import ExampleMetrics


def preference_values(policy: PairScores, output: ObjectiveOutput) -> dict[str, Tensor]:
    """name -> (B,): losses and rewards on the objective's own scale, log-probabilities in nats, lengths in tokens."""
    margins = output.chosen_rewards - output.rejected_rewards
    return {
        "loss": output.losses,
        "rewards/chosen": output.chosen_rewards,
        "rewards/rejected": output.rejected_rewards,
        "rewards/margins": margins,
        "rewards/accuracies": (margins > 0).float(),
        "logps/chosen": policy.chosen.logps,
        "logps/rejected": policy.rejected.logps,
        "data/chosen_tokens": policy.chosen.lengths,
        "data/rejected_tokens": policy.rejected.lengths,
    }


class PreferenceMetrics(ExampleMetrics):
    """Logs ``loss``, ``rewards/*``, ``logps/*`` and ``data/*`` as means over examples.

    Losses and rewards are on the objective's own scale and say nothing across objectives; log-probabilities do.
    """

    def columns(self, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
        return preference_values(outputs["policy"], outputs["output"])

    def scalars(self, columns: dict[str, Tensor]) -> dict[str, float]:
        means = {name: float(values.mean()) for name, values in columns.items() if name != "row"}
        return {**means, "data/pairs": float(len(columns["row"]))}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        pl_module.log("loss", outputs["output"].losses.mean(), prog_bar=True, logger=False)
