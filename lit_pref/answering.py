"""A policy answers prompts in the middle of its training, into the run's folder. Knows nothing about judges."""

from __future__ import annotations

import hashlib
import math
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import nn

from .console import say
from .drawing import Sampling
from .generation import generate
from .json_log import JsonLog
from .processes import Processes
from .prompts import Prompt, stop_tokens
from .refusals import Answer
from .rendering import Template
from .responses import Responses, plan_of, text_of
from .run_answers import EVALUATIONS, RESPONSES, files, spoken

#: Strategies that deal the weights out, so that a call of the model waits for all processes.
SHARDING = ("FSDPStrategy", "ModelParallelStrategy")


class PromptSet(NamedTuple):
    """Prompts that are answered again and again.

    Attributes:
        kind: ``prompts`` or ``control``.
        source: where they come from.
        prompts: in token ids.
    """

    kind: str
    source: str
    prompts: list[Prompt]


class Answering:
    """Writes ``responses.jsonl`` and, before each set of prompts is begun, a line of ``evaluations.jsonl``.

    Args:
        sampling: how to draw.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.log = JsonLog(EVALUATIONS)
        self.folder = Path()

    def open(self, folder: Path, writes: bool, checkpoint: str | None = None) -> None:
        """Say where the files lie, whether this process writes them, and which checkpoint the run starts from."""
        self.folder = folder
        self.log.open(folder, writes, checkpoint)

    def __call__(
        self, trainer: pl.Trainer, policy: nn.Module, asked: PromptSet, fingerprint: str, template: Template
    ) -> tuple[str, list[Answer]]:
        """The name of what was asked and the answers, on every process; what the files hold is not generated again."""
        tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        stops = stop_tokens(policy, tokenizer, template)
        model = f"{fingerprint} at step {trainer.global_step}"
        plan = plan_of(asked.prompts, self.sampling, stops, model)
        count = len(asked.prompts) * self.sampling.samples
        told = {"plan": plan, "step": trainer.global_step, "set": asked.kind, "source": asked.source}
        self.log.append([{**told, "prompts": len(asked.prompts), "responses": count}])
        processes = Processes.of(trainer)
        file = Responses(self.folder / RESPONSES, plan, asked.prompts, tokenizer, processes)
        generated = generate(
            policy,
            [prompt.ids for prompt in asked.prompts],
            self.sampling,
            stops,
            processes,
            sink=file,
            numbers=[prompt.number for prompt in asked.prompts],
            done=file.done(),
            collective=collective(trainer),
        )
        file.complete(generated)
        answers = [
            Answer(prompt.number, response.sample, spoken(prompt.text), text_of(tokenizer, response.ids))
            for response in generated
            for prompt in [asked.prompts[response.prompt]]
        ]
        return plan, answers

    def state_dict(self) -> dict[str, Any]:
        return self.log.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take along all responses, later ones too: what the same weights are asked again need not be generated."""
        self.log.load_state_dict(state)
        earlier = Path(state["path"]).parent if state["path"] else self.folder
        if not self.log.writes or not earlier.is_dir() or earlier.resolve() == self.folder.resolve():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in files(earlier):
                shutil.copyfile(path, self.folder / path.name)
        except OSError as error:
            say(f"The responses in {earlier} cannot be taken along ({error.strerror or error}).")


def collective(trainer: pl.Trainer) -> bool:
    """Whether the strategy deals the weights out to processes."""
    strategy = trainer.strategy
    return bool(getattr(strategy, "zero_stage_3", False)) or type(strategy).__name__ in SHARDING


@torch.no_grad()
def weights_fingerprint(model: nn.Module, processes: Processes) -> tuple[str, bool]:
    """A name that changes when weights do, and whether all of them are finite numbers; the same on every process.

    Of each parameter sum and norm count, so that it costs one reading of the weights and no copy of them. Where
    weights are dealt out, each process tells of its part.
    """
    digest, finite = hashlib.sha256(), True
    for name, parameter in model.named_parameters():
        local: Any = getattr(parameter, "ds_tensor", parameter)  # ZeRO-3's part of it
        local = local.to_local() if hasattr(local, "to_local") else local.detach()
        local = local.cpu() if local.device.type == "mps" else local  # which has no long sums
        numbers = [float(local.sum(dtype=torch.float64)), float(local.norm(dtype=torch.float64))]
        finite = finite and all(map(math.isfinite, numbers))
        digest.update(name.encode() + struct.pack("<2d", *numbers))
    # Pieces that cannot overflow when all processes' are added up.
    pieces = struct.unpack("<8I", digest.digest())
    parts = torch.tensor([*pieces, int(not finite)], dtype=torch.int64, device=processes.device)
    *total, broken = processes.total(parts).tolist()
    return hashlib.sha256(repr(total).encode()).hexdigest()[:16], broken == 0


def texts(answers: Sequence[Answer]) -> str:
    """A name for the prompts of answers, to know them again."""
    asked = [(answer.number, answer.sample, answer.prompt) for answer in answers]
    return hashlib.sha256(repr(asked).encode("utf-8", "replace")).hexdigest()[:16]
