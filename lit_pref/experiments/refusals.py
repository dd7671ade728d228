"""Refusals of one model after the other, on the same prompts with the same draws. Knows nothing of arms or tables."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError

from ..drawing import Sampling
from ..errors import ConfigError
from ..judges import Item, Judge, VerdictCache
from ..preferences.answering import answers, device_of
from ..preferences.command import planned
from ..preferences.judging import Canaries, judged
from ..preferences.prompt_source import PromptSource
from ..prompts import Prompt
from ..run_answers import spoken
from .opinions import Judged, Labels

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
        self.sample, self.sampling, self.folder = sample, sampling, folder
        self.cache = VerdictCache(folder / "verdicts.sqlite")
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
                Item(spoken(prompt.text), answer.text)
                for prompt, own in zip(prompts, texts, strict=True)
                for answer in own
            ]
        return found

    def judged(self, items: Mapping[str, Items], second: Mapping[str, Any] | None) -> Judged:
        """Verdicts on everything that was answered.

        Args:
            items: model -> set -> answers.
            second: class_path and init_args of a judge that reads the same answers. One that is talked round too often
                gives no verdicts.

        Raises:
            ConfigError: the judge of the sample is talked round too often.
        """
        judge = self.plan.judge
        canaries = Canaries(judge, self.cache, self.device)
        canaries.demand()
        labels = self._labels(judge, items)
        if second is None:
            return Judged(labels, notes=(canaries.sentence,))
        other = judge_of(self.sample, second)
        again = Canaries(other, self.cache, self.device)
        said = self._labels(other, items) if again.trusted else None
        return Judged(labels, said, (judge.name, other.name), (canaries.sentence, again.sentence))

    def _labels(self, judge: Judge, items: Mapping[str, Items]) -> Labels:
        """With the judge loaded once: model -> set -> labels."""
        places = [(name, part) for name, own in items.items() for part in own]
        verdicts = judged(judge, [items[name][part] for name, part in places], self.cache, self.device)
        found: Labels = {name: {} for name in items}
        for (name, part), own in zip(places, verdicts, strict=True):
            found[name][part] = [verdict.label for verdict in own]
        return found


def judge_of(sample: Mapping[str, Any], given: Mapping[str, Any]) -> Judge:
    """The second judge of an evaluation.

    Raises:
        ConfigError: there is no such class, or it has no such argument.
    """
    try:
        return planned({**sample, "judge": dict(given), "out": "pairs.jsonl"}).judge
    except ArgumentError as error:
        raise ConfigError(f"evaluation.second_judge or sample cannot be used:\n{error}") from error


def sampling_of(values: Mapping[str, Any], seed: int) -> Sampling:
    """Settings of evaluation for one run: every run draws its own answers."""
    settings = asdict(Sampling(**values))
    return Sampling(**{**settings, "seed": settings["seed"] + seed})
