"""Answers of one model to prompts, on one process: what is on disk is not written again. Knows nothing of judges.

The model is built only where an answer is missing, so what is finished costs no memory and no time.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from ..drawing import Sampling
from ..errors import SetupError
from ..generation import generate
from ..models import CausalLM, locate
from ..processes import Processes
from ..prompts import Prompt, stop_tokens
from ..rendering import Template
from ..responses import Responses, plan_of, text_of
from ..similarity.scoring_run import load_policy

DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Answer:
    """A response as text.

    Attributes:
        text: without special tokens.
        ended: whether the model ended it; otherwise it was cut at max_new_tokens.
    """

    text: str
    ended: bool


def device_of(name: DeviceName) -> torch.device:
    """The device to compute on; SetupError where there is no GPU that was asked for."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SetupError("device: cuda was asked for, but torch sees no GPU.\n  Fix: set device to cpu or auto.")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def answers(
    source: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    template: Template,
    path: Path,
    device: torch.device,
    checkpoint: Path | None = None,
    name: str | None = None,
) -> list[list[Answer]]:
    """``sampling.samples`` answers to each prompt, in order.

    Args:
        source: the model.
        tokenizer: of the model.
        prompts: in token ids.
        sampling: how answers are drawn.
        template: with which the prompts were encoded.
        path: file that holds answers, and gets those that are missing.
        device: to compute on.
        checkpoint: file of a run whose policy answers in the place of the model's own weights; always in float32,
            since in bfloat16 most of what a small learning rate has changed would be rounded away.
        name: what tells the weights from all others; by default the model's own fingerprint.
    """
    stop = stop_tokens(_described(source), tokenizer, template)
    plan = plan_of(prompts, sampling, stop, name or source.fingerprint())
    kept = Responses(path, plan, prompts, tokenizer)
    found = {r.key: r for r in kept.done() if r.sample < sampling.samples}
    if len(found) < len(prompts) * sampling.samples:
        model = _built(source, checkpoint)
        ids = [prompt.ids for prompt in prompts]
        numbers = [prompt.number for prompt in prompts]
        here = Processes(device=device)
        written = generate(model.to(device), ids, sampling, stop, here, kept, numbers, list(found.values()))
        found = {r.key: r for r in written}
        del model
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()  # a judge may need the room
    samples = range(sampling.samples)
    texts = {key: Answer(text_of(tokenizer, r.ids), r.ended) for key, r in found.items()}
    return [[texts[place, sample] for sample in samples] for place in range(len(prompts))]


def _built(source: CausalLM, checkpoint: Path | None) -> Any:
    if checkpoint is None:
        return source.build_frozen()
    if not checkpoint.is_file():
        raise SetupError(
            f"{checkpoint}: answers of these weights are missing, and the weights are not there any more.\n"
            "  Fix: train again (remove the folder of the run), and keep the checkpoint."
        )
    model = replace(source, dtype="float32").build()
    load_policy(model, checkpoint)
    return model


def _described(source: CausalLM) -> Any:
    """The configs of a model without its weights."""
    where = locate(source.path)
    options: dict[str, Any] = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(where, **options)
    except OSError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SetupError(
            f"model {source.path!r} could not be loaded: {reason}\n"
            "  Fix: give a local folder with the files of a transformers model, or a hub name while online."
        ) from error
    for key, value in source.config.items():
        setattr(config, key, value)
    try:
        generation = GenerationConfig.from_pretrained(where, revision=source.revision or "main")
    except OSError:  # a model need not have one
        generation = None
    return SimpleNamespace(config=config, generation_config=generation)
