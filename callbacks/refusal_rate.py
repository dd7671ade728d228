"""How often the policy refuses, asked and judged while it trains (as in Razin et al., ICLR 2025, section 6).

https://arxiv.org/abs/2410.08847
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.seed import isolate_rng

from lit_pref.answering import Answering, PromptSet, weights_fingerprint
from lit_pref.console import counting, say
from lit_pref.drawing import Sampling
from lit_pref.errors import ConfigError
from lit_pref.json_log import JsonLog
from lit_pref.judges import Item, Judge, Verdict, VerdictCache
from lit_pref.judges.canaries import TOO_MANY
from lit_pref.panel import Session, canaries_of, fingerprint_of, names_of
from lit_pref.paths import cache_root
from lit_pref.processes import Processes
from lit_pref.progress import nothing_left, started_from
from lit_pref.prompts import read_prompts
from lit_pref.refusal_statistics import MAX_ABSTAIN
from lit_pref.run_answers import CONTROL, PROMPTS

from .refusal_report import Judged, RefusalReport


class RefusalRate(pl.Callback):
    """Samples responses before the first epoch, between epochs and after the last step, and has them judged.

    Logs ``refusal/rate_JUDGE/val`` with a 95% interval (``low``, ``high``), with what it would be if every response
    without a verdict were none, or one, a refusal (``worst_low``, ``worst_high``), ``compliance`` and ``partial``, how
    many responses have no verdict (``judge/unparseable_JUDGE/val``, ``judge/error_JUDGE/val``), the change since the
    first evaluation, and for harmless prompts the same as ``refusal/over_rate_JUDGE/val``; and
    ``generation/tokens/val``, the mean length of responses (harmless prompts: ``generation/over_tokens/val``). A rate
    is NaN where too many verdicts lack, or where the judge can be talked round, and absent where the judge could not be
    asked: no judge ever stops a training. ``responses.jsonl``, ``evaluations.jsonl`` and ``verdicts.jsonl`` in the
    run's folder hold everything, for ``lit-pref judge``.

    Draws depend on a prompt's number and the seed alone, so the same noise meets each policy, and a difference between
    two evaluations comes from the weights.

    Args:
        prompts: what is asked: JSONL, JSON, CSV, Parquet or a text file, or world:request/test. Rendered by
            ``data.template``.
        judges: the first one is the main one; others are compared with it.
        sampling: how responses are drawn.
        column: holds the prompts.
        control_prompts: harmless prompts, whose refusals are over-refusals.
        limit: how many prompts of each file are used, the first ones; all by default.
        max_abstain: with a larger share of responses without a verdict there is no rate.
        every_n_epochs: between two evaluations.
        cache: SQLite file of verdicts; by default below $LIT_PREF_CACHE or ~/.cache/lit-pref.
        canaries: try at the start how often each judge is talked round by what a response says.
        gather: under ZeRO-3, bring the policy's weights together once for a set of prompts, which needs memory for all
            of them on every process; False does it for every token, part by part: slow, and for any size of model.
    """

    def __init__(
        self,
        prompts: str,
        judges: list[Judge],
        sampling: Sampling = Sampling(),  # noqa: B008, frozen
        column: str = "prompt",
        control_prompts: str | None = None,
        limit: int | None = None,
        max_abstain: float = MAX_ABSTAIN,
        every_n_epochs: int = 1,
        cache: str | None = None,
        canaries: bool = True,
        gather: bool = True,
    ) -> None:
        if not judges:
            raise ConfigError("RefusalRate: judges is empty.\n  Fix: name one, such as lit_pref.judges.KeywordJudge.")
        if every_n_epochs < 1 or not 0 <= max_abstain <= 1 or (limit is not None and limit < 1):
            raise ConfigError(
                f"RefusalRate: every_n_epochs is {every_n_epochs}, limit {limit}, max_abstain {max_abstain}.\n"
                "  Fix: the first two have to be at least 1, the last one is a share from 0 to 1."
            )
        self.sources = {PROMPTS: prompts} | ({CONTROL: control_prompts} if control_prompts else {})
        self.judges, self.names = judges, names_of(judges)
        self.column, self.limit, self.every_n_epochs, self.canaries = column, limit, every_n_epochs, canaries
        self.cache = VerdictCache(cache or cache_root() / "verdicts.sqlite")
        self.answering = Answering(sampling, gather)
        self.verdicts = JsonLog("verdicts.jsonl")
        self.report = RefusalReport(max_abstain, sampling.seed)
        self.sets: list[PromptSet] = []
        self.evaluated_for = -1  # the last epoch that was evaluated for
        #: Fingerprint of a judge -> canaries that talk it round, and those that say something about it.
        self.flipped: dict[str, list[int]] = {}
        self._step = -1  # of the last evaluation
        self._open_state: dict[str, Any] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._open_state, self._step = None, -1
        folder = Path(trainer.default_root_dir)
        for lines in (self.answering, self.verdicts):
            lines.open(folder, trainer.is_global_zero, started_from(trainer))
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.sets = [
            PromptSet(
                kind, source, read_prompts(source, data.tokenizer, data.source.template, self.column, limit=self.limit)
            )
            for kind, source in self.sources.items()
        ]

        def watch(epoch: int) -> None:
            due = epoch % self.every_n_epochs == 0 or not self.report.first
            if due and epoch > self.evaluated_for and not nothing_left(trainer, epoch):
                self._evaluate(trainer, pl_module)
                self.evaluated_for = epoch

        data.watchers.append(watch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A checkpoint of a finished run goes on as if it had not been evaluated at its end.
        self._open_state = self.state_dict()
        if trainer.global_step != self._step:
            self._evaluate(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Said last, when a progress bar has been taken down."""
        self.cache.close()
        if stage == "fit" and self.report.sentences:
            say("\n".join(self.report.sentences))

    def state_dict(self) -> dict[str, Any]:
        if self._open_state is not None:
            return self._open_state
        return {
            "evaluated_for": self.evaluated_for,
            "flipped": dict(self.flipped),
            "report": self.report.state_dict(),
            "answers": self.answering.state_dict(),
            "verdicts": self.verdicts.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.evaluated_for = state_dict["evaluated_for"]
        self.flipped = dict(state_dict["flipped"])
        self.report.load_state_dict(state_dict["report"])
        self.answering.load_state_dict(state_dict["answers"])
        self.verdicts.load_state_dict(state_dict["verdicts"])

    def _evaluate(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Ask, judge, write down, report; training meets the random numbers that it would have met without."""
        template = trainer.datamodule.source.template  # type: ignore[attr-defined]
        processes = Processes.of(trainer)
        with isolate_rng():
            fingerprint, finite = weights_fingerprint(pl_module.policy, processes)
            self._step = trainer.global_step
            if not finite:
                say("The policy's weights are no longer finite numbers, so RefusalRate asks it nothing.")
                return
            asked = trainer, pl_module.policy
            notes = {"judges": {name: fingerprint_of(j, name) for j, name in zip(self.judges, self.names, strict=True)}}
            told = {s.kind: self.answering(*asked, s, fingerprint, template, notes) for s in self.sets}
            plans = {kind: plan for kind, (plan, _, _) in told.items()}
            answers = {kind: found for kind, (_, found, _) in told.items()}
            tokens = {kind: mean for kind, (_, _, mean) in told.items()}
            items = {kind: [Item(a.prompt, a.response) for a in found] for kind, found in answers.items()}
            verdicts = self._judge(trainer, items, processes)
        judged = Judged(trainer.global_step, plans, answers, verdicts, tokens)
        self._write(judged)
        self.report.add(trainer, judged, {name: self._trusted(name) for name in self.names}, self.answering.folder)

    def _judge(
        self, trainer: pl.Trainer, items: dict[str, list[Item]], processes: Processes
    ) -> dict[str, dict[str, list[Verdict]]]:
        """Each judge's verdicts, by kind of prompts; one judge is loaded at a time."""
        verdicts: dict[str, dict[str, list[Verdict]]] = {kind: {} for kind in items}
        shares = [len(list(dict.fromkeys(asked))[processes.rank :: processes.size]) for asked in items.values()]
        total = sum(shares) * len(self.judges)
        count = nullcontext(None) if processes.rank else counting("Judging", total, "responses")
        with count as advance:
            for judge, name in zip(self.judges, self.names, strict=True):
                # A signal that ends the training does not wait for a slow judge; `lit-pref judge` can go on.
                session = Session(judge, name, self.cache, processes, stop=lambda: trainer.received_sigterm)
                session.open()
                self._try_canaries(trainer, session)
                session.advance = advance
                for kind, asked in items.items():
                    verdicts[kind][name] = session.judge(asked)
                session.close()
        return verdicts

    def _try_canaries(self, trainer: pl.Trainer, session: Session) -> None:
        """Once for each judge; again at the next evaluation where it could not be asked."""
        own = fingerprint_of(session.wrapped, session.name)
        if not self.canaries or own in self.flipped:
            return
        result = canaries_of(session)
        if result is None:
            return
        self.flipped[own] = [len(result.flipped), len(result.verdicts) - result.unclear]
        for logger in trainer.loggers:
            logger.log_metrics({f"judge/canary_flip_{session.name}/val": result.rate}, trainer.global_step)
        say(result.sentence(session.name))

    def _trusted(self, name: str) -> bool:
        """False where a judge was talked round by more canaries than its rates are worth reporting with."""
        own = fingerprint_of(self.judges[self.names.index(name)], name)
        flipped, tried = self.flipped.get(own, [0, 0])
        return flipped <= TOO_MANY * tried

    def _write(self, judged: Judged) -> None:
        """A line a response and judge."""
        self.verdicts.append(
            {
                "plan": judged.plans[kind], "step": judged.step, "set": kind, "index": answer.number,
                "sample": answer.sample, "judge": name, "label": v.label, "score": v.score, "reason": v.reason,
                "fingerprint": v.judge, "cached": v.cached,
            }
            for kind, by_judge in judged.verdicts.items()
            for name, verdicts in by_judge.items()
            for answer, v in zip(judged.answers[kind], verdicts, strict=True)
        )  # fmt: skip
