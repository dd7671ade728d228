"""What an arm's folder already holds: a run that ended, one that can go on, or neither. Knows files; trains nothing."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from ..console import say
from ..manifest import read_manifest
from .inputs import Inputs
from .planned_arm import PlannedArm, key_of


class RunState(NamedTuple):
    """How far an arm is.

    Attributes:
        finished: the folder of its run that ended.
        checkpoint: where a run that was ended from outside can go on.
    """

    finished: Path | None = None
    checkpoint: Path | None = None


def runs_of(folder: Path) -> list[Path]:
    """The runs in an arm's folder, the latest first."""
    found = [path for path in folder.glob("version_*") if re.fullmatch(r"version_\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.split("_")[1]), reverse=True)


def state_of(arm: PlannedArm, folder: Path, inputs: Inputs) -> RunState:
    """How far an arm is, whoever ran it: runs of another configuration, data or policy do not count.

    Args:
        arm: what is to be done.
        folder: of its runs.
        inputs: what it would read now.
    """
    checkpoint = None
    for run in runs_of(folder):
        manifest = read_manifest(run)
        if manifest is None:
            continue
        same = inputs.are_of(manifest) and _key(run) == arm.key
        if manifest["finished"]:
            # A report takes the latest run that finished; earlier ones do not count, whatever they are of.
            return RunState(finished=run) if same else RunState(checkpoint=checkpoint)
        if same and checkpoint is None:
            checkpoint = usable(run / "checkpoints" / "last.ckpt")
    return RunState(checkpoint=checkpoint)


def usable(checkpoint: Path) -> Path | None:
    """The checkpoint, if it can be read: who is killed while writing one leaves half of it."""
    if checkpoint.is_dir():
        return checkpoint  # of a sharded run
    if not checkpoint.exists():
        return None
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever the bytes make it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        say(f"{checkpoint}: this checkpoint cannot be read ({reason[:100]}); its run does not go on from it.")
        return None
    return checkpoint


def logged(run: Path) -> bool:
    """Whether a run wrote any number down."""
    return (run / "metrics.csv").is_file()


def _key(run: Path) -> str | None:
    try:
        config: Any = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        return key_of(config)
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return None
