"""What a run says about refusals: curves, texts and closing sentences, from answers that were judged."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from lit_pref.answering import texts
from lit_pref.console import say
from lit_pref.judged_text import agreement_words, common_error, disagreement_lines, disagreement_text, flip_text
from lit_pref.judges import Agreement, Verdict, agreement
from lit_pref.refusal_statistics import Paired, RefusalCounts
from lit_pref.refusal_tags import agreement_scalars, change_scalars, summary_scalars
from lit_pref.refusals import (
    Answer,
    Summary,
    change,
    change_words,
    disagreements,
    percent,
    percents,
    summary,
)
from lit_pref.run_answers import CONTROL, PROMPTS, answers_of

#: Disagreements of two judges that the closing sentences show; TensorBoard and ``lit-pref judge`` show more.
SHOWN = 3


class Judged(NamedTuple):
    """One evaluation.

    Attributes:
        step: optimizer steps before it.
        plans: kind of prompts -> name of what was asked.
        answers: kind of prompts -> answers.
        verdicts: kind of prompts -> judge's name -> a verdict an answer.
        tokens: kind of prompts -> mean tokens of an answer.
    """

    step: int
    plans: dict[str, str]
    answers: dict[str, list[Answer]]
    verdicts: dict[str, dict[str, list[Verdict]]]
    tokens: dict[str, float]

    def labels(self, kind: str, name: str) -> list[str]:
        return [verdict.label for verdict in self.verdicts[kind][name]]

    def numbers(self, kind: str) -> list[int]:
        return [answer.number for answer in self.answers[kind]]


class RefusalReport:
    """Compares every evaluation with the first one, and judges with the main one.

    Args:
        max_abstain: with a larger share of responses without a verdict there is no rate.
        seed: of bootstraps.
    """

    def __init__(self, max_abstain: float, seed: int) -> None:
        self.max_abstain, self.seed = max_abstain, seed
        #: Of the first evaluation, by kind: step, plan, prompts' name, fingerprint -> labels. Empty before it.
        self.first: dict[str, dict[str, Any]] = {}
        self.sentences: list[str] = []

    def summary(self, judged: Judged, kind: str, name: str, trusted: bool) -> Summary:
        """What a judge found in an evaluation."""
        labels, numbers = judged.labels(kind, name), judged.numbers(kind)
        return summary(labels, numbers, self.max_abstain, trusted, self.seed)

    def add(self, trainer: pl.Trainer, judged: Judged, trusted: dict[str, bool], folder: Path) -> None:
        """Log an evaluation, and know what to say if it was the last."""
        self._begin(judged)
        scalars: dict[str, float] = {}
        self.sentences = []
        for kind, by_judge in judged.verdicts.items():
            over = "over_" if kind == CONTROL else ""
            scalars[f"generation/{over}tokens"] = judged.tokens[kind]
            for name, verdicts in by_judge.items():
                found = self.summary(judged, kind, name, trusted[name])
                self._warn(found, name, kind, trusted[name], verdicts)
                moved = None if math.isnan(found.rate) else self._change(judged, kind, name)
                scalars |= summary_scalars(found, name, over)
                scalars[f"judge/{over}cached_{name}"] = sum(v.cached for v in verdicts) / max(len(verdicts), 1)
                if moved is not None and moved.n:
                    scalars |= change_scalars(moved, name, over)
                self.sentences.append(self._sentence(judged, kind, name, found, moved, trusted[name]))
        scalars |= self._agreements(judged)
        for logger in trainer.loggers:
            logger.log_metrics({f"{tag}/val": value for tag, value in scalars.items()}, judged.step)
        self._texts(trainer, judged, folder)

    def state_dict(self) -> dict[str, Any]:
        return {kind: dict(first) for kind, first in self.first.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first = {kind: dict(first) for kind, first in state.items()}

    def _begin(self, judged: Judged) -> None:
        """Remember the first evaluation; of other prompts than before, this one."""
        for kind, answers in judged.answers.items():
            name = texts(answers)
            if kind in self.first and self.first[kind]["prompts"] != name:
                say(f"The {kind} of RefusalRate are not those of the checkpoint; changes count from this evaluation.")
                del self.first[kind]
            if kind not in self.first:
                labels = {v[0].judge: [x.label for x in v] for v in judged.verdicts[kind].values() if v}
                self.first[kind] = {
                    "step": judged.step, "plan": judged.plans[kind], "prompts": name, "labels": labels,
                }  # fmt: skip

    def _before(self, judged: Judged, kind: str, name: str) -> list[str] | None:
        """The judge's labels of the first evaluation; None where this is it, or the judge was another one then."""
        first = self.first[kind]
        verdicts = judged.verdicts[kind][name]
        return None if first["step"] == judged.step or not verdicts else first["labels"].get(verdicts[0].judge)

    def _change(self, judged: Judged, kind: str, name: str) -> Paired | None:
        """Since the first evaluation; None where that had no rate."""
        before = self._before(judged, kind, name)
        if before is None or math.isnan(RefusalCounts.of(before).reported(self.max_abstain)):
            return None
        return change(before, judged.labels(kind, name), judged.numbers(kind), self.seed)

    def _warn(self, found: Summary, name: str, kind: str, trusted: bool, verdicts: Sequence[Verdict]) -> None:
        why = common_error(verdicts)
        if not found.asked:
            say(f"{name} gave no verdict on the {kind}, so there is no rate; `lit-pref judge` can ask it later.{why}")
        elif trusted and not found.counts.abstained <= self.max_abstain:
            say(
                f"{name} gave no verdict on {percent(found.counts.abstained)} of the {kind}, more than max_abstain "
                f"({percent(self.max_abstain)}): its rate is NaN. With all of them it would lie in "
                f"{percents(found.bounds)}.{why}"
            )

    def _sentence(
        self, judged: Judged, kind: str, name: str, found: Summary, moved: Paired | None, trusted: bool
    ) -> str:
        numbers = judged.numbers(kind)
        what = "Refusals" if kind == PROMPTS else "Over-refusals"
        text = f"{what} on {len(set(numbers)):,} {'harmless ' if kind == CONTROL else ''}prompts ({name}): "
        now = f"{percent(found.rate)} {percents(found.interval)}" if found.rate == found.rate else "no rate"
        before = self._before(judged, kind, name)
        at = self.first[kind]["step"]
        start = "before training" if at == 0 else f"at step {at}"
        if before is None:
            text += f"{now} {start if at == judged.step else 'after'}"
        else:
            old = summary(before, numbers, self.max_abstain, trusted, self.seed)
            was = f"{percent(old.rate)} {percents(old.interval)}" if old.rate == old.rate else "no rate"
            text += f"{was} {start}, {now} after"
            text += f" ({change_words(moved)})" if moved is not None else ""
        counts = found.counts
        text += f"; {percent(counts.unparseable / counts.total)} unparseable"
        return text + (f", {percent(counts.error / counts.total)} not judged." if counts.error else ".")

    def _agreements(self, judged: Judged) -> dict[str, float]:
        """Each other judge against the main one."""
        main, *others = judged.verdicts[PROMPTS]
        scalars: dict[str, float] = {}
        for name in others:
            found = self._agreement(judged, main, name)
            scalars |= agreement_scalars(found, name)
            places, labels = _contradictions(judged, main, name, SHOWN)
            lines = disagreement_lines(judged.answers[PROMPTS], places, labels)
            self.sentences.append(agreement_words(main, name, found) + lines)
        return scalars

    def _agreement(self, judged: Judged, main: str, other: str) -> Agreement:
        return agreement(judged.labels(PROMPTS, main), judged.labels(PROMPTS, other), self.seed)  # type: ignore[arg-type]

    def _texts(self, trainer: pl.Trainer, judged: Judged, folder: Path) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not loggers or not trainer.is_global_zero:
            return
        main, *others = judged.verdicts[PROMPTS]
        answers = judged.answers[PROMPTS]
        written = {}
        before = self._before(judged, PROMPTS, main)
        if before is not None:
            earlier = answers_of(folder, self.first[PROMPTS]["plan"])
            if [answer.key for answer in earlier] == [answer.key for answer in answers]:
                now = judged.labels(PROMPTS, main)
                written["refusal/flips/val"] = flip_text(earlier, answers, before, now)
        for name in others:
            places, labels = _contradictions(judged, main, name, 20)
            words = agreement_words(main, name, self._agreement(judged, main, name))
            written[f"judge/disagreements_{name}/val"] = f"{words}\n\n{disagreement_text(answers, places, labels)}"
        for logger in loggers:
            for tag, text in written.items():
                logger.experiment.add_text(tag, text, judged.step)


def _contradictions(judged: Judged, main: str, other: str, count: int) -> tuple[list[int], dict[str, list[str]]]:
    """Places of the largest disagreements about the prompts, and all labels of both judges."""
    pair: Sequence[list[Verdict]] = [judged.verdicts[PROMPTS][main], judged.verdicts[PROMPTS][other]]
    labels: dict[str, list[str]] = {main: [v.label for v in pair[0]], other: [v.label for v in pair[1]]}
    scores = [(a.score, b.score) for a, b in zip(*pair, strict=True)]
    return disagreements(labels[main], labels[other], scores, count), labels
