"""When a run's manifest is written, and what it says. Knows a Trainer, its module and its data; computes nothing."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from lit_pref import __version__
from lit_pref.data.tokenized import content_of
from lit_pref.manifest import rows_digest, run_folder_of, write_manifest
from lit_pref.progress import nothing_left, started_from

PACKAGES = ("torch", "transformers", "lightning")


class RunManifest(pl.Callback):
    """Writes ``run.json`` when a fit begins and again when it ends, by itself or by an error.

    A run that was killed says ``finished: false`` and nothing of what stopped it; one that failed says ``finished:
    false`` and the error's class. The command line adds this callback to every ``lit-pref fit``. The policy's
    fingerprint reads the files of its weights once more.

    Args:
        objective: class_path and init_args of the objective, as in config.yaml.
        seed: of the run.
    """

    def __init__(self, objective: dict[str, Any], seed: int | None) -> None:
        self.objective, self.seed = objective, seed
        self.record: dict[str, Any] = {}
        self._began = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.record, self._began = {}, time.monotonic()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.record = {
                "lit_pref": __version__,
                "command": "fit",
                "objective": self.objective,
                "seed": self.seed,
                "policy": pl_module.source.fingerprint(),  # type: ignore[operator,union-attr]
                "reference": type(pl_module.reference).__name__,
                **data_of(trainer.datamodule),  # type: ignore[attr-defined]
                "packages": {name: version(name) for name in PACKAGES},
                "continues": continued(trainer),
            }
            self._write(trainer, finished=False, stopped_by=None)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer, finished=True, stopped_by=stopped_by(trainer))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._write(trainer, finished=False, stopped_by=type(exception).__name__)

    def _write(self, trainer: pl.Trainer, finished: bool, stopped_by: str | None) -> None:
        if self.record:  # on the first process, once there is something to say
            seconds = round(time.monotonic() - self._began, 3)
            end = {"finished": finished, "stopped_by": stopped_by, "steps": trainer.global_step, "seconds": seconds}
            write_manifest(Path(trainer.default_root_dir), {**self.record, **end})


def data_of(data: Any) -> dict[str, Any]:
    """Which pairs a PreferenceData trains and validates on: fingerprints, digests of rows, counts."""
    train, val = data.train.rows[data.kept], data.val.rows[data.val_positions]
    return {
        "data": {"train": content_of(data.train), "val": content_of(data.val) if len(val) else None},
        "rows": {"train": rows_digest(train), "val": rows_digest(val)},
        "pairs": {"train": len(train), "val": len(val)},
    }


def continued(trainer: pl.Trainer) -> str | None:
    """The folder of the run that this one goes on from; None for a run from the start."""
    # The command line may say "last", which the Trainer alone turns into a path.
    named = [path for path in (started_from(trainer), trainer.ckpt_path) if path and Path(path).expanduser().exists()]
    return str(run_folder_of(named[0])) if named else None


def stopped_by(trainer: pl.Trainer) -> str:
    """What ended a fit: ``max_steps``, ``max_epochs``, or the class of the callback that asked for it."""
    if 0 <= trainer.max_steps <= trainer.global_step:
        return "max_steps"
    # An epoch that was cut short counts as one that is over, so the batch has to be asked too.
    if nothing_left(trainer, trainer.current_epoch) and (trainer.is_last_batch or not trainer.should_stop):
        return "max_epochs"
    return getattr(trainer, "stopped_by", None) or "a callback"
