"""A policy answers prompts in the middle of its training, into the run's folder. Knows nothing about judges."""

from __future__ import annotations

import hashlib
import math
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

from .console import say
from .drawing import Sampling
from .generated import Generated
from .generation import Sink, generate
from .json_log import JsonLog
from .processes import Processes
from .prompts import Prompt, stop_tokens
from .refusals import Answer
from .rendering import Template
from .responses import Responses, plan_of, text_of
from .run_answers import EVALUATIONS, RESPONSES, files, spoken
from .sharding import sharded, whole


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
        gather: where ZeRO-3 shards weights, bring them together once for all responses to a set of prompts. Each
            process then needs memory for all of the policy. Otherwise they come and go in every call of the model,
            that is, for every token.
    """

    def __init__(self, sampling: Sampling, gather: bool = True) -> None:
        self.sampling, self.gather = sampling, gather
        self.log = JsonLog(EVALUATIONS)
        self.folder = Path()

    def open(self, folder: Path, writes: bool, checkpoint: str | None = None) -> None:
        """Say where the files lie, whether this process writes them, and which checkpoint the run starts from."""
        self.folder = folder
        self.log.open(folder, writes, checkpoint)

    def __call__(
        self,
        trainer: pl.Trainer,
        policy: nn.Module,
        asked: PromptSet,
        fingerprint: str,
        template: Template,
        notes: Mapping[str, Any] = {},
    ) -> tuple[str, list[Answer], float]:
        """The name of what was asked, the answers, and the mean of their tokens (the one that ended it counts).

        All of it on every process; what the files hold is not generated again. ``notes`` go into the line of the
        evaluation, beside ``asked``: a name for prompts, sampling and ends alone, which other policies share.
        """
        tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        stops = stop_tokens(policy, tokenizer, template)
        model = f"{fingerprint} at step {trainer.global_step}"
        plan = plan_of(asked.prompts, self.sampling, stops, model)
        count = len(asked.prompts) * self.sampling.samples
        told = {"plan": plan, "step": trainer.global_step, "set": asked.kind, "source": asked.source}
        same = plan_of(asked.prompts, self.sampling, stops, "")
        self.log.append([{**told, "asked": same, "prompts": len(asked.prompts), "responses": count, **notes}])
        processes = Processes.of(trainer)
        file = Responses(self.folder / RESPONSES, plan, asked.prompts, tokenizer, processes)
        with whole(policy, self.gather) as held:
            generated = generate(
                policy,
                [prompt.ids for prompt in asked.prompts],
                self.sampling,
                stops,
                processes,
                sink=_interruptible(file, trainer),
                numbers=[prompt.number for prompt in asked.prompts],
                done=file.done(),
                collective=sharded(trainer) and not held,
            )
        file.complete(generated)
        answers = [
            Answer(prompt.number, response.sample, spoken(prompt.text), text_of(tokenizer, response.ids))
            for response in generated
            for prompt in [asked.prompts[response.prompt]]
        ]
        tokens = sum(len(response.ids) for response in generated)
        return plan, answers, tokens / len(generated) if generated else math.nan

    def state_dict(self) -> dict[str, Any]:
        return self.log.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take along all responses, later ones too: what the same weights are asked again need not be generated.

        They lie beside the evaluations that the checkpoint knows, wherever its run is now.
        """
        self.log.load_state_dict(state)
        if self.log.taken is None or self.log.taken.parent.resolve() == self.folder.resolve():
            return
        earlier = self.log.taken.parent
        try:
            for path in files(earlier):
                shutil.copyfile(path, self.folder / path.name)
        except OSError as error:
            say(f"The responses in {earlier} cannot be taken along ({error.strerror or error}).")


def _interruptible(file: Responses, trainer: pl.Trainer) -> Sink:
    """Writes what is finished, then lets a signal end the run between two batches, as Lightning does between two steps.

    Of several processes none may leave alone, so there the signal waits for the end of the answers.
    """

    def sink(finished: Sequence[Generated]) -> None:
        file(finished)
        if trainer.received_sigterm and trainer.world_size == 1:
            raise SIGTERMException

    return sink


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
