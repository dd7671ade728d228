"""A run's row in TensorBoard's HParams table: its settings beside the numbers it ended with. Measures nothing."""

import re
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

#: Tags that mean the same for every objective; losses and rewards do not.
COMPARABLE = re.compile(
    r"displacement/(chosen|rejected|margin|share_displaced|accuracies)/val|refusal/(over_)?rate_.+/val"
)


class LastValues(Logger):
    """Remembers the last number that was logged under each tag."""

    name = version = ""  # what progress bars show of a logger

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.values.update(metrics)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: these are no numbers of a run."""


class HParams(pl.Callback):
    """Writes, when a fit ends, the run's settings and last comparable numbers where its curves are.

    Settings are the objective with its numbers, seed, optimizer, learning rate, batch size and epochs; numbers are
    displacement and refusal rates on validation. The command line adds this callback to every ``lit-pref fit``.

    Args:
        config: of the run, as in config.yaml.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.settings = settings_of(config)
        self.last = LastValues()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        shown = any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)
        if shown and self.last not in trainer.loggers:
            trainer.loggers = [*trainer.loggers, self.last]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not loggers or not trainer.is_global_zero:
            return
        found = {tag: float(value) for tag, value in sorted(self.last.values.items()) if COMPARABLE.fullmatch(tag)}
        for logger in loggers:
            # Not add_hparams, which would begin a folder of events beside the one of the curves.
            for summary in hparams(self.settings, found):
                logger.experiment._get_file_writer().add_summary(summary)


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> text or number of the settings that arms of a comparison differ in.

    TensorBoard sorts the names and shows the first five at first, so those of the objective come before the others.
    """
    model, data, trainer = config["model"], config.get("data") or {}, config.get("trainer") or {}
    optimizer = model.get("optimizer") or {}
    return {
        **_flat("objective", model["objective"]),
        "seed": config.get("seed_everything"),
        "training.optimizer": _class_name(optimizer),
        "training.learning_rate": (optimizer.get("init_args") or {}).get("lr"),
        "training.batch_size": data.get("batch_size"),
        "training.accumulate_grad_batches": trainer.get("accumulate_grad_batches"),
        "training.max_epochs": trainer.get("max_epochs"),
        "training.max_steps": trainer.get("max_steps"),
    }


def _flat(name: str, value: Any) -> dict[str, Any]:
    """A class by its name, and its arguments below it; lists of numbers as text."""
    if isinstance(value, Mapping) and "class_path" in value:
        inner = {f"{name}.{key}": v for key, v in (value.get("init_args") or {}).items()}
        return {name: _class_name(value), **{k: v for key, arg in inner.items() for k, v in _flat(key, arg).items()}}
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return {k: v for i, item in enumerate(value) for k, v in _flat(f"{name}.{i}", item).items()}
    return {name: value if isinstance(value, bool | int | float | str | None) else str(value)}


def _class_name(value: Mapping[str, Any]) -> str:
    return str(value.get("class_path", "")).rpartition(".")[-1]
