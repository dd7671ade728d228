"""The layout of TensorBoard's Custom Scalars page. Knows tags, measures nothing."""

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger


def _chart(*tags: str) -> list[str | list[str]]:
    return ["Multiline", list(tags)]


#: What a person should see first: chosen and rejected log-probabilities in one chart.
LAYOUT = {
    "Likelihood displacement": {
        "log-probability, validation (nats)": _chart("logps/chosen/val", "logps/rejected/val"),
        "change against the reference, validation (nats)": _chart(
            "displacement/chosen/val", "displacement/rejected/val", "displacement/margin/val"
        ),
        "change against the reference, training batches (nats)": _chart(
            "displacement/chosen/train", "displacement/rejected/train", "displacement/margin/train"
        ),
        "share of pairs": _chart("displacement/share_displaced/val", "displacement/accuracies/val"),
        "chosen, all pairs and worst tenth (nats)": _chart("displacement/chosen/val", "displacement/worst_decile/val"),
    },
    "Objective": {
        "loss": _chart("loss/train", "loss/val"),
        "rewards, validation": _chart("rewards/chosen/val", "rewards/rejected/val", "rewards/margins/val"),
        "weights of the two log-probabilities": _chart(
            "objective/chosen_weight/train", "objective/rejected_weight/train"
        ),
        "reward accuracy": _chart("rewards/accuracies/train", "rewards/accuracies/val"),
    },
}


class Dashboard(pl.Callback):
    """Writes the Custom Scalars layout into the run's TensorBoard folder."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(LAYOUT)
