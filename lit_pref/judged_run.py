"""Judges every evaluation of a run from its files, and reports. Knows nothing about policies, training or words."""

from __future__ import annotations

import json
from pathlib import Path

from .console import counting, say
from .errors import ConfigError
from .judges.base import Item, Judge, Verdict
from .judges.cache import VerdictCache
from .judges.canaries import CanaryResult
from .panel import Session, canaries_of, device_named, names_of
from .paths import cache_root
from .rate_correction import RateCorrection
from .refusal_statistics import MAX_ABSTAIN
from .whole_file import write_text


class JudgedRun:
    """Judge the responses of a run, and write ``judged.md``, ``judged.json`` and ``judged_verdicts.jsonl``.

    Args:
        run: folder of a run that has a responses.jsonl.
        judges: the first one is the main one; by default those of the run's RefusalRate. KeywordJudge, ClassifierJudge,
            GenerativeJudge, SorryBenchJudge, EndpointJudge, or a class of yours.
        cache: SQLite file of verdicts; by default below $LIT_PREF_CACHE or ~/.cache/lit-pref.
        out: folder that is written to; by default that of the run.
        max_abstain: with a larger share of responses without a verdict there is no rate.
        canaries: try how often each judge is talked round by what a response says.
        device: where judges that are models compute, such as cuda.
        seed: of bootstraps.
        calibration: a calibration.json of ``lit-pref calibrate``; rates without the errors that it holds are shown
            beside the rates.
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
        calibration: str | None = None,
    ) -> None:
        if not 0 <= max_abstain <= 1:
            raise ConfigError(f"max_abstain is {max_abstain}\n  Fix: give a share from 0 to 1.")
        self.folder, self.judges, self.canaries = Path(run).expanduser(), judges, canaries
        self.names = names_of(self.judges)
        self.cache = VerdictCache(cache or cache_root() / "verdicts.sqlite")
        self.out = Path(out).expanduser() if out else self.folder
        self.device = device_named(device)
        self.correction = None if calibration is None else RateCorrection(calibration, seed)
        self.max_abstain, self.seed = max_abstain, seed
        #: name -> plan -> a verdict an answer.
        self.verdicts: dict[str, dict[str, list[Verdict]]] = {}
        self.tried: dict[str, CanaryResult | None] = {}

    def write(self) -> None:
        """Judge, say the report, and write it down."""
        from .judged_report import JudgedReport  # not before it is needed: it loads torch
        from .run_answers import answered, torn

        evaluations = answered(self.folder)
        for path in torn(self.folder):
            say(f"{path}: its last line was torn by a kill and is left out.")
        self._judge({e.plan: [Item(a.prompt, a.response) for a in e.answers] for e in evaluations})
        judges = dict(zip(self.names, self.judges, strict=True))
        found = JudgedReport(
            self.folder.name, judges, evaluations, self.verdicts, self.tried, self.max_abstain, self.correction,
            self.seed,
        )  # fmt: skip
        say(report := found.markdown())
        verdicts = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found.lines())
        self._store(
            {"judged.md": f"{report}\n", "judged.json": found.numbers(), "judged_verdicts.jsonl": verdicts}
        )  # fmt: skip

    def _store(self, contents: dict[str, str]) -> None:
        for name, text in contents.items():
            readable = text.encode("utf-8", "replace").decode()  # half a surrogate pair has no bytes
            write_text(self.out / name, readable, "The verdicts are in the cache; --out names another folder.")
        say(f"\nReport: {self.out / 'judged.md'}")

    def _judge(self, items: dict[str, list[Item]]) -> None:
        """Fill `verdicts` and `tried`; items by the plan of their evaluation."""
        total = sum(len(set(asked)) for asked in items.values()) * len(self.judges)
        with counting("Judging", total, "responses") as advance:
            for judge, name in zip(self.judges, self.names, strict=True):
                session = Session(judge, name, self.cache, device=self.device)
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
