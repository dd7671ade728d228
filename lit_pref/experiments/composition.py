"""Which pairs make a model refuse less? Shares of mixed pairs, and which refusal wins a tie, at equal steps.

Razin et al., ICLR 2025, https://arxiv.org/abs/2410.08847, section 6, taken apart: what the pairs are is set here, and
not left to what the model happened to say. Imports no torch before the first arm has run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..console import say
from ..errors import ConfigError
from ..refusal_statistics import RefusalCounts
from . import composition_report as report
from .arms import Arm
from .composition_cells import BEFORE, Cell, Facts, Runs
from .composition_figure import draw
from .failure import Failure, first_error
from .mixed_share import Share, classes, share_name, write_cut
from .opinions import Judged, Opinions
from .preference_arms import arm_of, check_arms, check_judge, labels_of, run_preference_arms, sampled, scored, trained
from .stages import filled, merged, read_jsonl

ARM_KEYS = ("fit", "rule", "match_steps")


@dataclass
class Composition:
    """Train on pairs of a model's own whose composition is set, and measure what each composition does to refusals.

    Args:
        sample: keys and values of ``lit-pref sample-preferences`` without out and tie_break; "{seed}" in a text stands
            for the seed.
        tie_breaks: name -> a tie_break of sample-preferences; each makes pairs of its own out of the same responses.
        shares: of mixed pairs (one refusal, one compliance) among the training pairs; "all" as they were sampled.
        arms_at: the share at which every arm trains; at the other shares only the baseline does.
        fit: keys and values of ``lit-pref fit`` that all arms share, without the data's path; "{seed}" as above. Equal
            trainer.max_steps is what makes cells of different size comparable.
        arms: name -> what is different: fit (keys laid over those above), rule (a pruning rule, applied to scores of
            the initial model), match_steps (repeat the kept pairs until an epoch takes as many steps as one of all
            pairs).
        baseline: the arm that trains at every share, and that the others are compared with.
        evaluation: sampling (of answers; its seed plus the run's is the seed), second_judge (class_path and init_args
            of one that reads the same answers; may be missing) and prompts: the sets train and test (harmful ones, to
            train on and held out) and control (harmless ones), each with path, column, where, limit.
        seeds: of the runs.
        out: folder of pairs, scores, runs, answers, tables and figure; what is done there is not done again.
        measure: of similarity, that the rules read.
        jobs: arms that train at once.
        keep_checkpoints: whether weights stay on disk once a run has answered.
    """

    sample: dict  # of Any, the parser would fill in defaults of every class_path
    tie_breaks: dict
    shares: list[Share]
    arms_at: Share
    fit: dict
    arms: dict
    baseline: str
    evaluation: dict
    seeds: list[int]
    out: str
    measure: str = "ln_ches"
    jobs: int = 1
    keep_checkpoints: bool = False

    def __post_init__(self) -> None:
        for name in ("seeds", "shares", "tie_breaks", "arms"):
            given = list(getattr(self, name))
            if not given or len(set(given)) < len(given):
                raise ConfigError(f"{name} needs at least one entry, and none twice")
        for share in self.shares:
            if share != "all" and not 0 <= share < 1:
                raise ConfigError(f"shares holds {share}, but each must be at least 0 and below 1, or all")
        if self.arms_at not in self.shares:
            raise ConfigError(
                f"arms_at is {self.arms_at}, but must be one of shares: {', '.join(map(share_name, self.shares))}"
            )
        if self.baseline not in self.arms:
            raise ConfigError(f"baseline is {self.baseline!r}, but must be one of arms: {', '.join(self.arms)}")
        if self.jobs < 1:
            raise ConfigError(f"jobs is {self.jobs}, but must be at least 1")
        if "tie_break" in self.sample:
            raise ConfigError("sample.tie_break has no effect.\n  Fix: give it a name among tie_breaks.")
        if missing := [part for part in ("train", "test", "control") if part not in self.evaluation.get("prompts", {})]:
            raise ConfigError(f"evaluation.prompts lacks {', '.join(missing)}; it needs train, test and control")
        check_arms(self.arms, ARM_KEYS)

    def run(self) -> None:
        """Do what is missing, and write ``composition.csv``, ``.md``, ``.png`` and ``.svg``.

        Raises:
            PrefError: a command failed, whose exit code it has; arms that ended well are kept and not run again.
        """
        out = Path(self.out).expanduser()
        cells = self.cells()
        runs: Runs = {cell: {} for cell in (BEFORE, *cells)}
        facts: Facts = {cell: {} for cell in cells}
        failures: dict[str, Failure] = {}
        opinions = Opinions()
        check_judge(self.sample, self.evaluation, self.seeds)
        for seed in self.seeds:
            data = self._data(seed, out)
            arms = self._arms(seed, data, out)
            results, failed = run_preference_arms(list(arms.values()), out / "arms", trained_rows, self.jobs)
            failures |= failed
            found = {cell: results[arm.name] for cell, arm in arms.items() if arm.name in results}
            judged = self._labels(seed, out, {cell.name: fact for cell, fact in found.items()})
            opinions.add(seed, judged)
            for cell in (BEFORE, *found):
                runs[cell][seed] = {p: RefusalCounts.of(said) for p, said in judged.labels[cell.model].items()}
            for cell, fact in found.items():
                facts[cell][seed] = {**fact, "classes": _classes(data[cell.tie_break, cell.share], fact["rows"])}
        if failures:
            raise first_error(failures, len(cells) * len(self.seeds))
        self._report(runs, facts, opinions, out)

    def cells(self) -> list[Cell]:
        """What is trained for every seed: the baseline at every share, then the other arms, for each tie-break."""
        others = [arm for arm in self.arms if arm != self.baseline]
        return [
            Cell(tie_break, share, arm)
            for tie_break in self.tie_breaks
            for share, arms in (*((share, [self.baseline]) for share in self.shares), (self.arms_at, others))
            for arm in arms
        ]

    def _report(self, runs: Runs, facts: Facts, opinions: Opinions, out: Path) -> None:
        report.write_csv(out / "composition.csv", runs, facts, opinions)
        text = f"{report.text(runs, facts, self.baseline)}\n{opinions.footer()}"
        (out / "composition.md").write_text(text + "\n", encoding="utf-8")
        draw(runs, facts, self.baseline, self.arms_at, [out / f"composition.{ending}" for ending in ("png", "svg")])
        say(f"\n{text}\n\nFiles: {out}")

    def _sample(self, seed: int, tie_break: str) -> dict[str, Any]:
        sample: dict[str, Any] = filled({**self.sample, "tie_break": self.tie_breaks[tie_break]}, seed)
        return sample

    def _data(self, seed: int, out: Path) -> dict[tuple[str, Share], Path]:
        """The training pairs of every tie-break and share."""
        found: dict[tuple[str, Share], Path] = {}
        for name in self.tie_breaks:
            pairs = sampled(self._sample(seed, name), out, f"seed {seed}, {name}")
            found |= {(name, share): write_cut(pairs, share, seed) for share in self.shares}
        return found

    def _config(self, seed: int, data: Path, change: dict[str, Any] | None = None) -> dict[str, Any]:
        config = merged(filled(self.fit, seed), filled(change or {}, seed))
        here = {"path": str(data.resolve()), "columns": {"labels": ["pair_class"]}}
        return {**merged(config, {"data": here}), "seed_everything": seed}

    def _arms(self, seed: int, data: dict[tuple[str, Share], Path], out: Path) -> dict[Cell, Arm]:
        scores: dict[tuple[str, Share], Path] = {}
        arms = {}
        for cell in self.cells():
            given, place = self.arms[cell.arm] or {}, (cell.tie_break, cell.share)
            if given.get("rule") and place not in scores:
                config = self._config(seed, data[place])
                scores[place] = scored(config, self.measure, out, f"seed {seed}, {cell.tie_break}")
            config = self._config(seed, data[place], given.get("fit"))
            arms[cell] = arm_of(f"{cell.name}_seed{seed}", config, given, scores.get(place), self.measure)
        return arms

    def _labels(self, seed: int, out: Path, found: dict[str, dict[str, Any]]) -> Judged:
        """Verdicts on what the initial model and every trained arm of a seed answer."""
        from ..preferences.prompt_source import PromptSource

        sets = {part: PromptSource(**filled(given, seed)) for part, given in self.evaluation["prompts"].items()}
        sample = self._sample(seed, next(iter(self.tie_breaks)))  # model and judge are the same for all of them
        return labels_of(
            sample, filled(self.evaluation, seed), sets, seed, out / "answers", found, self.keep_checkpoints
        )


def trained_rows(run: Path) -> dict[str, Any]:
    """What a run's files say, with the rows of its data that it started to train on."""
    ledger = pq.read_table(run / "ledger.parquet", columns=["epoch", "row", "kept"])
    kept = ledger.filter(pc.and_kleene(pc.equal(ledger["epoch"], 0), ledger["kept"]))
    return {**trained(run), "rows": kept["row"].to_pylist()}


def _classes(data: Path, rows: list[int]) -> dict[str, int]:
    """How many pairs of each class there are among some rows of a file."""
    lines = read_jsonl(data)
    return classes([lines[row] for row in rows])
