"""Judges every evaluation of a run from its files, and reports. Knows nothing about policies or training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from .console import counting, say
from .errors import ConfigError, SetupError
from .judged_text import TABLE_HEAD, agreement_words, disagreement_text, flip_text, table_row
from .judges import Item, Judge, Verdict, VerdictCache, agreement
from .judges.canaries import CanaryResult
from .panel import Session, canaries_of, names_of
from .paths import cache_root
from .processes import Processes
from .refusal_statistics import MAX_ABSTAIN
from .refusals import Summary, change, change_words, disagreements, summary
from .run_answers import CONTROL, PROMPTS, Answered, answered, torn


class JudgedRun:
    """Judge the responses of a run, and write ``judged.md``, ``judged.json`` and ``judged_verdicts.jsonl``.

    Args:
        run: folder of a run that has a responses.jsonl.
        judges: the first one is the main one; by default those of the run's RefusalRate.
        cache: SQLite file of verdicts; by default below $LIT_PREF_CACHE or ~/.cache/lit-pref.
        out: folder that is written to; by default that of the run.
        max_abstain: with a larger share of responses without a verdict there is no rate.
        canaries: try how often each judge is talked round by what a response says.
        device: where judges that are models compute, such as cuda.
        seed: of bootstraps.
    """

    def __init__(
        self,
        run: str,
        judges: list[Judge] = [],  # noqa: B006, never changed
        cache: str | None = None,
        out: str | None = None,
        max_abstain: float = MAX_ABSTAIN,
        canaries: bool = True,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if not 0 <= max_abstain <= 1:
            raise ConfigError(f"max_abstain is {max_abstain}\n  Fix: give a share from 0 to 1.")
        self.folder, self.judges, self.canaries = Path(run).expanduser(), judges, canaries
        self.names = names_of(self.judges)
        self.cache = VerdictCache(cache or cache_root() / "verdicts.sqlite")
        self.out = Path(out).expanduser() if out else self.folder
        try:
            self.device = torch.device(device)
        except RuntimeError as error:
            raise ConfigError(f"device is {device!r}\n  Fix: give cpu, cuda, cuda:1 or the like.") from error
        self.max_abstain, self.seed = max_abstain, seed
        self.evaluations: list[Answered] = []
        #: name -> plan -> a verdict an answer.
        self.verdicts: dict[str, dict[str, list[Verdict]]] = {}
        self.tried: dict[str, CanaryResult | None] = {}

    def write(self) -> None:
        """Judge, say the report, and write it down."""
        self.evaluations = answered(self.folder)
        for path in torn(self.folder):
            say(f"{path}: its last line was torn by a kill and is left out.")
        self._judge()
        report = self._report()
        say(report)
        verdicts = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self._lines())
        contents = {"judged.md": f"{report}\n", "judged.json": self._json(), "judged_verdicts.jsonl": verdicts}
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            for name, text in contents.items():
                (self.out / name).write_bytes(text.encode("utf-8", "replace"))
        except OSError as error:
            raise SetupError(
                f"{self.out}: the report cannot be written ({error.strerror or error}).\n"
                "  Fix: make room, or give another folder by --out. The verdicts are in the cache."
            ) from error
        say(f"\nReport: {self.out / 'judged.md'}")

    def _judge(self) -> None:
        items = {e.plan: [Item(a.prompt, a.response) for a in e.answers] for e in self.evaluations}
        total = sum(len(set(asked)) for asked in items.values()) * len(self.judges)
        processes = Processes(device=self.device)
        with counting("Judging", total, "responses") as advance:
            for judge, name in zip(self.judges, self.names, strict=True):
                session = Session(judge, name, self.cache, processes)
                session.open()
                if self.canaries:
                    self.tried[name] = canaries_of(session)
                session.advance = advance
                self.verdicts[name] = {}
                for plan, asked in items.items():
                    verdicts = self.verdicts[name][plan] = session.judge(asked)
                    if any(verdict.label != "error" for verdict in verdicts):
                        session.open()  # again: a judge's deadline is that of one evaluation
                session.close()
        self.cache.close()

    def _labels(self, name: str, plan: str) -> list[Any]:
        return [verdict.label for verdict in self.verdicts[name][plan]]

    def _summary(self, name: str, evaluation: Answered) -> Summary:
        tried = self.tried.get(name)
        numbers = [answer.number for answer in evaluation.answers]
        trusted = tried is None or tried.trusted
        return summary(self._labels(name, evaluation.plan), numbers, self.max_abstain, trusted, self.seed)

    def _report(self) -> str:
        parts = [f"# Refusals of {self.folder.name}"]
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
        first = self.names[0]
        for name in self.names[1:]:
            found = agreement(self._labels(first, evaluation.plan), self._labels(name, evaluation.plan), self.seed)
            lines += ["", agreement_words(first, name, found)]
        return "\n".join(lines)

    def _changes(self, first: Answered, last: Answered) -> list[str]:
        """Of each judge, on the prompts that were answered both times."""
        parts = []
        old, new = ({a.key: i for i, a in enumerate(e.answers)} for e in (first, last))
        both = [k for k in old if k in new and first.answers[old[k]].prompt == last.answers[new[k]].prompt]
        for name in self.names:
            before, after = self._labels(name, first.plan), self._labels(name, last.plan)
            labels = [before[old[k]] for k in both], [after[new[k]] for k in both]
            moved = change(*labels, [number for number, _ in both], self.seed)
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

    def _json(self) -> str:
        first = self.names[0]
        evaluations = [
            {
                "plan": e.plan, "step": e.step, "set": e.kind, "responses": len(e.answers), "asked": e.asked,
                "judges": {name: _plain(self._summary(name, e)) for name in self.names},
                "agreement_with_first": {
                    name: _finite(
                        agreement(self._labels(first, e.plan), self._labels(name, e.plan), self.seed)._asdict()
                    )
                    for name in self.names[1:]
                },
            }
            for e in self.evaluations
        ]  # fmt: skip
        canaries = {n: None if t is None else _finite(t.rate) for n, t in self.tried.items()}
        whole = {"run": self.folder.name, "judges": self.names, "canary_flips": canaries, "evaluations": evaluations}
        return json.dumps(whole, indent=2) + "\n"

    def _lines(self) -> list[dict[str, Any]]:
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


def _plain(found: Summary) -> dict[str, Any]:
    counts = dict(zip(("refusal", "compliance", "partial", "unparseable", "error"), found.counts.counts(), strict=True))
    values = {key: value for key, value in found._asdict().items() if key != "counts"}
    return {"counts": counts, **_finite(values)}


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
