"""What judges say about the evaluations of a run: a report, numbers, and a line a verdict. Judges nothing itself."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from .finite_json import finite
from .judged_text import TABLE_HEAD, agreement_words, alpha_words, common_error, disagreement_text, flip_text, table_row
from .judges.agreement import Alpha, agreement, nominal_alpha
from .judges.base import LABELS, Judge, Verdict
from .judges.canaries import CanaryResult
from .rate_correction import CAVEAT, RateCorrection
from .refusals import Summary, change, change_words, disagreements, summary
from .run_answers import CONTROL, PROMPTS, Answered


@dataclass(frozen=True)
class JudgedReport:
    """The judged evaluations of one run.

    Attributes:
        run: name of the run.
        judges: by name; the first one is the main one.
        evaluations: in their order.
        verdicts: name -> plan -> a verdict an answer.
        tried: name -> how the judge did on the canaries; None where it could not be asked.
        max_abstain: with a larger share of responses without a verdict there is no rate.
        correction: of rates for the errors of their judges.
        seed: of bootstraps.
    """

    run: str
    judges: dict[str, Judge]
    evaluations: list[Answered]
    verdicts: dict[str, dict[str, list[Verdict]]]
    tried: dict[str, CanaryResult | None]
    max_abstain: float
    correction: RateCorrection | None
    seed: int

    @property
    def names(self) -> list[str]:
        """Of the judges."""
        return list(self.judges)

    def _labels(self, name: str, plan: str) -> list[Any]:
        return [verdict.label for verdict in self.verdicts[name][plan]]

    def _summary(self, name: str, evaluation: Answered) -> Summary:
        tried = self.tried.get(name)
        trusted = tried is None or tried.trusted
        return summary(self._labels(name, evaluation.plan), _numbers(evaluation), self.max_abstain, trusted, self.seed)

    def markdown(self) -> str:
        """The report."""
        parts = [f"# Refusals of {self.run}"]
        parts += [tried.sentence(name) for name, tried in self.tried.items() if tried is not None]
        main = [e for e in self.evaluations if e.kind == PROMPTS]
        for evaluation in main:
            parts.append(self._section(evaluation))
        if len(main) > 1:
            parts += [f"## From {_title(main[0])} to {_title(main[-1])}", *self._changes(main[0], main[-1])]
        if main and len(self.judges) > 1:
            parts += [f"## Largest disagreements, {_title(main[-1])}", self._disagreements(main[-1])]
        return "\n\n".join(parts)

    def _section(self, evaluation: Answered) -> str:
        control = next((e for e in self.evaluations if e.kind == CONTROL and e.step == evaluation.step), None)
        lines = [f"## {_title(evaluation).capitalize()}", ""]
        if evaluation.asked is not None and len(evaluation.answers) < evaluation.asked:
            lines += [f"Only {len(evaluation.answers):,} of {evaluation.asked:,} responses were written.", ""]
        lines.append(TABLE_HEAD)
        for name in self.names:
            over = None if control is None else self._summary(name, control)
            lines.append(table_row(name, self._summary(name, evaluation), over))
        failed = {name: common_error(self.verdicts[name][evaluation.plan]) for name in self.names}
        lines += [line for name, why in failed.items() if why for line in ("", f"{name}:{why}")]
        first = self.names[0]
        for name in self.names[1:]:
            found = agreement(self._labels(first, evaluation.plan), self._labels(name, evaluation.plan), self.seed)
            lines += ["", agreement_words(first, name, found)]
        if len(self.names) > 2:
            lines += ["", alpha_words(len(self.names), self._alpha(evaluation))]
        if self.correction is not None:
            for name, judge in self.judges.items():
                words = self.correction.words(name, judge, self._summary(name, evaluation), _numbers(evaluation))
                lines += ["", words]
            lines += ["", CAVEAT]
        return "\n".join(lines)

    def _alpha(self, evaluation: Answered) -> Alpha:
        return nominal_alpha([self._labels(name, evaluation.plan) for name in self.names], self.seed)

    def _changes(self, first: Answered, last: Answered) -> list[str]:
        """Of each judge, on the prompts that were answered both times."""
        parts = []
        old, new = ({a.key: i for i, a in enumerate(e.answers)} for e in (first, last))
        both = [k for k in old if k in new and first.answers[old[k]].prompt == last.answers[new[k]].prompt]
        for name in self.names:
            before, after = self._labels(name, first.plan), self._labels(name, last.plan)
            labels = [before[old[k]] for k in both], [after[new[k]] for k in both]
            moved = change(*labels, [number for number, _ in both], self.seed)
            if any(math.isnan(self._summary(name, evaluation).rate) for evaluation in (first, last)):
                parts.append(f"{name}: one of the two rates is unknown, and so is the change.")
            else:
                parts.append(
                    f"{name}, {moved.n:,} responses: {change_words(moved)}; {moved.became_refusal:,} became refusals, "
                    f"{moved.ceased_refusal:,} ceased to be."
                )
            if name == self.names[0]:
                answers = [first.answers[old[k]] for k in both], [last.answers[new[k]] for k in both]
                flipped = flip_text(*answers, *labels)
        return [*parts, f"Verdicts of {self.names[0]} that changed:", flipped]

    def _disagreements(self, last: Answered) -> str:
        first, *others = self.names
        parts = []
        for name in others:
            pair = self.verdicts[first][last.plan], self.verdicts[name][last.plan]
            labels = {first: self._labels(first, last.plan), name: self._labels(name, last.plan)}
            scores = [(a.score, b.score) for a, b in zip(*pair, strict=True)]
            places = disagreements(labels[first], labels[name], scores, 20)
            parts.append(disagreement_text(last.answers, places, labels))
        return "\n\n".join(parts)

    def numbers(self) -> str:
        """The numbers of the report as JSON."""
        first = self.names[0]
        evaluations = [
            {
                "plan": e.plan, "step": e.step, "set": e.kind, "responses": len(e.answers), "asked": e.asked,
                "judges": {name: self._plain(name, e) for name in self.names},
                "krippendorff_alpha": finite(self._alpha(e)._asdict()) if len(self.names) > 2 else None,
                "agreement_with_first": {
                    name: finite(
                        agreement(self._labels(first, e.plan), self._labels(name, e.plan), self.seed)._asdict()
                    )
                    for name in self.names[1:]
                },
            }
            for e in self.evaluations
        ]  # fmt: skip
        canaries = {n: None if t is None else finite(t.rate) for n, t in self.tried.items()}
        whole = {"run": self.run, "judges": self.names, "canary_flips": canaries, "evaluations": evaluations}
        return json.dumps(whole, indent=2) + "\n"

    def _plain(self, name: str, evaluation: Answered) -> dict[str, Any]:
        found = self._summary(name, evaluation)
        counts = dict(zip(LABELS, found.counts.counts(), strict=True))
        values = {key: value for key, value in found._asdict().items() if key != "counts"}
        if self.correction is not None:
            beside = self.correction(self.judges[name], found, _numbers(evaluation))
            values["corrected"] = None if isinstance(beside, str) else beside._asdict()
        return {"counts": counts, **finite(values)}

    def lines(self) -> list[dict[str, Any]]:
        """A line a response and judge, as those of the run's own ``verdicts.jsonl``."""
        return [
            {
                "plan": e.plan, "step": e.step, "set": e.kind, "index": answer.number, "sample": answer.sample,
                "judge": name, "label": v.label, "score": v.score, "reason": v.reason, "fingerprint": v.judge,
                "cached": v.cached,
            }
            for e in self.evaluations
            for name in self.names
            for answer, v in zip(e.answers, self.verdicts[name][e.plan], strict=True)
        ]  # fmt: skip


def _title(evaluation: Answered) -> str:
    return f"plan {evaluation.plan}" if evaluation.step is None else f"step {evaluation.step:,}"


def _numbers(evaluation: Answered) -> list[int]:
    return [answer.number for answer in evaluation.answers]
