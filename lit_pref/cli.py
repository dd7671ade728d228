"""Lightning's command line for PreferenceModule and PreferenceData: fit, validate, test, predict, score."""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from transformers.utils.logging import disable_progress_bar

import callbacks as _callbacks  # noqa: F401, short class names resolve to what is imported
from callbacks import HParams, LastCheckpoint, PlainProgress, RunManifest
from objectives import Objective

from .console import say
from .data.datamodule import PreferenceData
from .errors import ConfigError, PrefError
from .module import PreferenceModule
from .parser import ConfigFile, PrefArgumentParser, prefer_whole_numbers, refused_by_constructor
from .runs import RunFolder
from .trainer import PrefTrainer

TRAINER_DEFAULTS = {
    "num_sanity_val_steps": 0,  # callbacks.ValidateEnds measures all pairs before the first step instead
    "use_distributed_sampler": False,  # lit_pref.order deals the pairs out to processes
    "enable_model_summary": False,
    "reload_dataloaders_every_n_epochs": 1,  # so that PreferenceData.keep acts from the next epoch on
}

#: What scoring does without; it has no folder of a run, and writes beside ``--out`` alone.
LEFT_OUT_OF_SCORING = {
    "model.objective": None,
    "model.reference": None,
    "trainer.callbacks": None,
    "trainer.logger": False,
    "trainer.enable_checkpointing": False,
    "trainer.enable_progress_bar": False,
    "trainer.fast_dev_run": False,
}


class SaveConfig(SaveConfigCallback):
    """Writes config.yaml, which runs the run again, into the run's folder."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        path = Path(trainer.default_root_dir) / "config.yaml"
        self.parser.save(self.config, path, skip_none=False, overwrite=True, multifile=False)


class PrefCLI(LightningCLI):
    """LightningCLI with one folder a run, and without checkpoints that override the command line."""

    def __init__(self, *, args: ArgsType, **kwargs: Any) -> None:
        first = args[0] if isinstance(args, list) and args else None
        #: The command that is asked for, where that is plain to see.
        self.asked = first if first in self.subcommands() else None
        super().__init__(args=args, **kwargs)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        kwargs.setdefault("dump_header", [f"lightning.pytorch=={pl.__version__}"])
        parser = self.parser_class(**kwargs)
        parser.add_argument("-c", "--config", action=ConfigFile, help="YAML file; several are merged in order.")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunFolder, "run")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, and ``score``; of each, the arguments that are no options."""
        return {**LightningCLI.subcommands(), "score": {"model", "datamodule"}}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        if self.asked not in (None, subcommand):
            return self.init_parser(**kwargs)  # a name to choose; finding out all its keys takes as long as our imports
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        prefer_whole_numbers(parser)
        if subcommand != "score":  # which alone needs no objective
            (objective,) = (action for action in parser._actions if action.dest == "model.objective")
            objective.required, objective.default = True, argparse.SUPPRESS
            # Of an optional class, the parser would bury what its constructor refuses in a list of types.
            objective._typehint = Objective  # type: ignore[attr-defined]
        return parser

    def before_instantiate_classes(self) -> None:
        """Scoring takes a config of training as it is, and leaves out what only trains, logs or watches."""
        if self.subcommand == "score":
            for key, value in LEFT_OUT_OF_SCORING.items():
                self.config[f"score.{key}"] = value
            self.save_config_callback = None

    def _parse_ckpt_path(self) -> None:
        """Nothing: a checkpoint gives weights and progress; settings are those of the command line."""

    def instantiate_classes(self) -> None:
        checkpoint = self._get(self.config, "ckpt_path")
        if checkpoint and checkpoint not in ("last", "best", "hpc", "registry") and not Path(checkpoint).exists():
            raise ConfigError(f"--ckpt_path {checkpoint}: there is no such file or folder")
        try:
            super().instantiate_classes()
        except (ValueError, MisconfigurationException) as error:  # a constructor refused what it was given
            raise ConfigError(refused_by_constructor(str(error))) from error
        except RuntimeError as error:
            if "more than one stateful callback" not in str(error):
                raise
            raise ConfigError(f"trainer.callbacks: {error}\n  Fix: name each of these callbacks once.") from error

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        settings = self._get(self.config_init, "trainer")
        if settings.get("overfit_batches"):
            raise ConfigError(
                "trainer.overfit_batches would replace the order of pairs; use trainer.limit_train_batches"
            )
        if settings.get("use_distributed_sampler"):
            raise ConfigError(
                "trainer.use_distributed_sampler: pairs are dealt out by lit-pref itself; set it to false"
            )
        if self.subcommand == "score":
            return super().instantiate_trainer(**kwargs)
        if settings.get("default_root_dir") is not None:
            raise ConfigError(
                "trainer.default_root_dir would put some files of the run elsewhere than the rest.\n"
                "  Fix: name the folder by run.root and run.name."
            )
        run: RunFolder = self._get(self.config_init, "run")
        folder = run.claim()
        say(f"Run folder: {folder}")
        if settings.get("logger") in (None, True):
            options: dict[str, Any] = {"save_dir": str(folder), "name": "", "version": ""}
            # Every line at once, 0.06 ms each: a short run shows how far it is, and a killed one keeps its numbers.
            table = CSVLogger(**options, flush_logs_every_n_steps=1)
            kwargs["logger"] = [TensorBoardLogger(**options, default_hp_metric=False), table]
        kwargs["default_root_dir"] = str(folder)
        self._choose_callbacks(settings)
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Tell the callbacks where the run starts from, which the Trainer itself keeps to itself."""
        self.trainer.started_from = self._get(self.config, "ckpt_path")  # type: ignore[attr-defined]

    def after_fit(self) -> None:
        """Say where the run lies and how to look at it."""
        folder = Path(self.trainer.default_root_dir)
        if any(isinstance(logger, TensorBoardLogger) for logger in self.trainer.loggers):
            say(f"Curves: tensorboard --logdir {folder.parent}")
        say(f"Files: {folder}")

    after_validate = after_test = after_fit

    def _choose_callbacks(self, settings: Any) -> None:
        """A bar on a terminal, plain lines elsewhere; no checkpoints where they are switched off."""
        chosen = settings.get("callbacks") or []
        chosen = list(chosen) if isinstance(chosen, list) else [chosen]
        if settings.get("enable_checkpointing") is False:
            chosen = [callback for callback in chosen if not isinstance(callback, LastCheckpoint)]
        shown = settings.get("enable_progress_bar") is not False
        if shown and not any(isinstance(callback, ProgressBar) for callback in chosen):
            # First in the list, so that it is taken down before others say their last words.
            chosen.insert(0, RichProgressBar() if sys.stdout.isatty() else PlainProgress())
        if self.subcommand == "fit":
            chosen += self._recorders()
        settings["callbacks"] = chosen

    def _recorders(self) -> list[pl.Callback]:
        """What writes down a fit and its settings, which callbacks of a config cannot know."""
        config = yaml.safe_load(self.parser.dump(self.config))[str(self.subcommand)]
        objective, seed = config["model"]["objective"], os.environ.get("PL_GLOBAL_SEED")
        return [RunManifest(objective, None if seed is None else int(seed)), HParams(config)]


#: How the command line is set up; whoever only reads its configurations sets it up alike.
SETUP: dict[str, Any] = {
    "model_class": PreferenceModule,
    "datamodule_class": PreferenceData,
    "trainer_class": PrefTrainer,
    "parser_class": PrefArgumentParser,
    "save_config_callback": SaveConfig,
    "trainer_defaults": TRAINER_DEFAULTS,
    "seed_everything_default": 0,
    "auto_configure_optimizers": False,
    "load_from_checkpoint_support": False,
}


def run(args: ArgsType) -> None:
    """Run one command; a failure that the user can mend ends in a few lines and its exit code."""
    quiet()
    try:
        PrefCLI(**SETUP, args=args)
    except PrefError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except MisconfigurationException as error:  # what the Trainer finds out only once it runs
        sys.stderr.write(f"error: {error}\n")
        sys.exit(ConfigError.exit_code)


def quiet() -> None:
    """Leave out what other libraries say about themselves; their warnings about the run stay."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu" if not torch.cuda.is_available() else "cuda")
    if not sys.stderr.isatty():
        disable_progress_bar()  # of loading weights
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*deprecated.*",
        ".*torch.distributed.* is deprecated.*",  # what DeepSpeed calls
        "Experiment logs directory .* exists and is not empty.*",  # the run's folder is new and its own
        "Found .* module.s. in eval mode.*",  # the reference is meant to be
        "The '.*_dataloader' does not have many workers.*",
        ".*gradient_checkpointing_enable. is deprecated.*",  # its new name is younger than the oldest release allowed
        "The dirpath has changed from .*",  # every run has a folder of its own
        "LightningCLI's args parameter.*",
        ".*Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message)
