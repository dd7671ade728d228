"""Evidence of an epoch and of a whole run, told to loggers, drawn, and put into a sentence. Knows no model or file."""

from collections.abc import Mapping

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from lit_pref.evidence import Evidence, evidence_of
from lit_pref.evidence_figure import pixels, scatter
from lit_pref.evidence_sentence import level_for, sentence


class EvidenceReport:
    """Says what measures of one moment told about the change of log-probabilities until another.

    Of an epoch it logs ``evidence/MEASURE_spearman/train`` with ``_spearman_low`` and ``_spearman_high``,
    ``evidence/MEASURE_auc/train`` and, in TensorBoard, the figure ``evidence/scatter/train``; of the run the same
    numbers, as ``evidence/MEASURE_spearman_run/train`` and so on, and a sentence. Intervals that are logged are of 95%
    each; those that the sentence goes by are corrected for the number of measures.

    Args:
        resamples: of the bootstrap.
    """

    def __init__(self, resamples: int) -> None:
        self.resamples = resamples
        self.sentence = ""

    def add(self, trainer: pl.Trainer, values: Mapping[str, Tensor], change: Tensor) -> None:
        """Judge n pairs over an epoch, on the first process.

        Args:
            trainer: whose loggers are told, at the number of steps taken.
            values: measure -> (n,) values before.
            change: (n,) change of the chosen log-probability since, nats.
        """
        if not values or not trainer.is_global_zero:
            return
        columns = {name: column.numpy() for name, column in values.items()}
        found = {name: evidence_of(column, -change.numpy(), self.resamples) for name, column in columns.items()}
        self._log(trainer, found, "")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                image = pixels(scatter(columns, change.numpy(), found))
                logger.experiment.add_image("evidence/scatter/train", image, trainer.global_step, dataformats="HWC")

    def close(self, trainer: pl.Trainer, values: Mapping[str, Tensor], change: Tensor) -> None:
        """Judge n pairs over the whole run, on the first process; the arguments are those of ``add``."""
        if not values or not trainer.is_global_zero:
            return
        fall, level = -change.numpy(), level_for(len(values))
        # A wider interval ends further out; as many resamples must lie beyond it as beyond one of 95%.
        more = self.resamples * len(values)
        found, corrected = {}, {}
        for name, column in values.items():
            found[name] = evidence_of(column.numpy(), fall, self.resamples)
            corrected[name] = evidence_of(column.numpy(), fall, more, level=level)
        self._log(trainer, found, "_run")
        self.sentence = sentence(corrected)

    def _log(self, trainer: pl.Trainer, found: Mapping[str, Evidence], ending: str) -> None:
        scalars = {}
        for name, e in found.items():
            numbers = {"spearman": e.spearman, "spearman_low": e.low, "spearman_high": e.high, "auc": e.auc}
            for what, number in numbers.items():
                tag = what.replace("spearman", f"spearman{ending}") if "spearman" in what else f"{what}{ending}"
                scalars[f"evidence/{name}_{tag}/train"] = number
        for logger in trainer.loggers:
            logger.log_metrics(scalars, trainer.global_step)
