"""What the runs of a comparison read: their pairs, tokenised once for all, and their policy. Trains nothing."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from ..console import say
from ..data.demands import check_demands
from ..data.tokenized import content_of
from ..experiments.stages import digest
from ..manifest import files_of
from .fit_configs import FitConfigs
from .planned_arm import PlannedArm


@dataclass(frozen=True)
class Inputs:
    """What one arm reads.

    Attributes:
        policy: fingerprint of the policy as training finds it.
        train: fingerprint of the data that are trained on.
        val: of those that validate; None where no pair does.
        steps: optimizer steps of a run, or None; an upper limit where a callback stops or prunes.
        files: key of the configuration -> sha256 of the file that it names.
    """

    policy: str
    train: str
    val: str | None
    steps: int | None
    files: dict[str, str | None] = field(default_factory=dict)

    def are_of(self, manifest: dict[str, Any]) -> bool:
        """Whether a run read the same; one that did not write down its files read none."""
        data = {"train": self.train, "val": self.val}
        same = manifest.get("policy") == self.policy and manifest.get("data") == data
        return same and manifest.get("files", {}) == self.files


class InputReader:
    """Tokenises the pairs of arms and names what they read, everything once.

    Args:
        fit: builds what a configuration names.
        quiet: whether nothing is said of the data.
    """

    def __init__(self, fit: FitConfigs, quiet: bool = False) -> None:
        self.fit = fit
        self.quiet = quiet
        self._data: dict[str, Any] = {}
        self._policies: dict[str, str] = {}
        self._files: dict[str, dict[str, str | None]] = {}

    def of(self, arm: PlannedArm) -> Inputs:
        """The inputs of an arm.

        Raises:
            PrefError: bad data, no such model, or pairs that the objective cannot use.
        """
        module, data = self.fit.built(arm.config)
        policy = digest(arm.config["model"]["policy"])
        name = digest([arm.config["data"], policy])
        if name not in self._data:
            data._tokenizer = None if data.tokenizer_path else module.source.tokenizer()  # no Trainer here gives it
            self._prepare(data)
            self._data[name] = data
        if policy not in self._policies:
            self._policies[policy] = module.source.fingerprint()
        data = self._data[name]
        devices = devices_of(arm.config["trainer"])
        for pairs, source in ((data.train, data.source), (data.val, data.val_source or data.source)):
            check_demands(module.objective, pairs, source.path, data.batch_size * devices, data.tokens_per_batch)
        val = content_of(data.val) if data.val_positions else None
        steps = steps_of(arm.config["trainer"], data.training.length, data.batch_size * devices)
        return Inputs(self._policies[policy], content_of(data.train), val, steps, self._files_of(arm))

    def _files_of(self, arm: PlannedArm) -> dict[str, str | None]:
        """Digests of the files that an arm's configuration names; seeds of one arm often share them all."""
        name = digest({**arm.config, "seed_everything": None, "run": None})
        if name not in self._files:
            self._files[name] = files_of(arm.config)
        return self._files[name]

    def _prepare(self, data: Any) -> None:
        from ..data.tokenized import tokenized

        for source in data._sources():
            pairs = tokenized(source, data.tokenizer, data.cache_dir)
            if not self.quiet:
                say(f"{source.path}: {pairs.meta['summary']}")
        data.setup("validate")  # which splits and selects, and warns of nothing: each run does so itself


def devices_of(trainer: dict[str, Any]) -> int:
    """Processes of a run, as far as its configuration says."""
    devices = trainer.get("devices")
    if isinstance(devices, list):
        return len(devices)
    if str(devices).isdecimal():
        return max(int(str(devices)), 1) * int(trainer.get("num_nodes") or 1)
    return max(torch.cuda.device_count(), 1) if trainer.get("accelerator") != "cpu" else 1


def steps_of(trainer: dict[str, Any], pairs: int, batch: int) -> int | None:
    """Optimizer steps of a run without pruning; None where nothing limits them but time.

    Args:
        trainer: its settings.
        pairs: of an epoch.
        batch: pairs a batch, over all processes.
    """
    batches: float = math.ceil(pairs / batch)
    limit = trainer.get("limit_train_batches")
    if limit is not None:
        # A file may write a number of batches as a float; a share is at most 1.
        share = isinstance(limit, float) and limit <= 1
        batches = int(batches * limit) if share else min(batches, int(limit))
    epochs, most = trainer.get("max_epochs"), trainer.get("max_steps")
    if epochs is None and most in (None, -1):
        epochs = None if trainer.get("max_time") else 1000  # Lightning's own
    each = math.ceil(batches / int(trainer.get("accumulate_grad_batches") or 1))
    limits = [each * epochs] if epochs is not None and epochs >= 0 else []
    limits += [most] if most is not None and most >= 0 else []
    return int(min(limits)) if limits else None
