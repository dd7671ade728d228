"""Refusals of one model after the other, on the same prompts with the same draws. Knows nothing of arms or tables."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..drawing import Sampling
from ..judges import Item, VerdictCache
from ..preferences.answering import answers, device_of
from ..preferences.command import planned
from ..preferences.prompt_source import PromptSource, request_of
from ..preferences.sampling_run import judged
from ..prompts import Prompt

Items = dict[str, list[Item]]


class Refusals:
    """Answers and verdicts of a policy and of its checkpoints.

    Args:
        sample: keys of ``lit-pref sample-preferences``: model, judge, template and device are taken from them.
        sampling: of these answers; its seed is that of the run.
        sets: name -> where prompts come from; one of them is encoded as those of training.
        folder: of answers and verdicts.
    """

    def __init__(
        self, sample: dict[str, Any], sampling: Sampling, sets: Mapping[str, PromptSource], folder: Path
    ) -> None:
        self.plan = planned({**sample, "out": str(folder / "pairs.jsonl")})
        self.sampling, self.folder = sampling, folder
        self.device = device_of(self.plan.device)
        # What training changed would be rounded away in bfloat16, and the initial model is measured as its arms are.
        self.model = replace(self.plan.model, dtype="float32")
        self.tokenizer = self.model.tokenizer()
        template = self.plan.prompts.template
        self.prompts: dict[str, list[Prompt]] = {
            name: replace(source, template=template).read(self.tokenizer, folder / f"{name}.prompts.jsonl")
            for name, source in sets.items()
        }

    def answer(self, name: str, checkpoint: Path | None = None, identity: str | None = None) -> Items:
        """What a model answers to every set; what is on disk is not asked again.

        Args:
            name: of the file of answers.
            checkpoint: whose policy answers; None: the model as it was.
            identity: what tells the checkpoint from all others.
        """
        found: Items = {}
        for part, prompts in self.prompts.items():
            path = self.folder / f"{name}.{part}.responses.jsonl"
            texts = answers(self.model, self.tokenizer, prompts, self.sampling, self.plan.prompts.template,
                            path, self.device, checkpoint, identity)  # fmt: skip
            found[part] = [
                Item(request_of(prompt.text), answer.text)
                for prompt, own in zip(prompts, texts, strict=True)
                for answer in own
            ]
        return found

    def labels(self, items: Mapping[str, Items]) -> dict[str, dict[str, list[str]]]:
        """Verdicts of everything that was answered, with the judge loaded once: model -> set -> labels."""
        places = [(name, part) for name, own in items.items() for part in own]
        verdicts = judged(
            self.plan.judge, [items[name][part] for name, part in places],
            VerdictCache(self.folder / "verdicts.sqlite"), self.device,
        )  # fmt: skip
        found: dict[str, dict[str, list[str]]] = {name: {} for name in items}
        for (name, part), own in zip(places, verdicts, strict=True):
            found[name][part] = [verdict.label for verdict in own]
        return found


def sampling_of(values: Mapping[str, Any], seed: int) -> Sampling:
    """Settings of evaluation for one run: every run draws its own answers."""
    settings = asdict(Sampling(**values))
    return Sampling(**{**settings, "seed": settings["seed"] + seed})
