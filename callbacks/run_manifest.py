"""When a run's manifest is written, and what it says. Knows a Trainer, its module and its data; computes nothing."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml

from lit_pref import __version__
from lit_pref.data.tokenized import content_of
from lit_pref.manifest import files_of, rows_digest, run_folder_of, write_manifest
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
            source: Any = pl_module.source
            policy = source.fingerprint()
            origin: Any = pl_module.reference.origin(source)  # type: ignore[operator,union-attr]
            self.record = {
                "lit_pref": __version__,
                "command": "fit",
                "objective": self.objective,
                "seed": self.seed,
                "policy": policy,
                "reference": type(pl_module.reference).__name__,
                "zero": policy if origin is source else origin and origin.fingerprint(),
                "files": files_of(config_of(trainer)),
                **data_of(trainer),
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


def config_of(trainer: pl.Trainer) -> dict[str, Any]:
    """The run's config.yaml, which lies there by now; empty for a run without a command line."""
    path = Path(trainer.default_root_dir) / "config.yaml"
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def data_of(trainer: pl.Trainer) -> dict[str, Any]:
    """Which pairs a fit trains and validates on: fingerprints, digests of rows, counts."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    train, val = data.train.rows[data.kept], data.val.rows[measured(trainer, data)]
    return {
        "data": {"train": content_of(data.train), "val": content_of(data.val) if data.val_positions else None},
        "rows": {"train": rows_digest(train), "val": rows_digest(val)},
        "pairs": {"train": len(train), "val": len(val)},
    }


def measured(trainer: pl.Trainer, data: Any) -> list[int]:
    """Positions of the pairs that a validation sees: those of the batches that the Trainer's limit lets through."""
    step, limit = data.val_batch_size * trainer.world_size, trainer.limit_val_batches
    batches = -(-len(data.val_positions) // step)
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)  # as Lightning reads it
    return list(data.val_positions[: batches * step])


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
