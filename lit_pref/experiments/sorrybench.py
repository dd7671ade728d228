"""Does preference training on a model's own answers make it refuse less, and what prevents that?

Razin et al., ICLR 2025, https://arxiv.org/abs/2410.08847, section 6, with the controls that the paper leaves out.
Imports no torch before the first arm has run.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..console import say
from ..errors import ConfigError
from ..refusal_statistics import RefusalCounts
from ..whole_file import write_text
from . import sorrybench_report as report
from .arms import Arm
from .failure import Failure, first_error
from .gold import Gold
from .opinions import Judged, Opinions
from .preference_arms import (
    INITIAL,
    arm_of,
    check_arms,
    check_judge,
    labels_of,
    run_preference_arms,
    sampled,
    scored,
    trained,
)
from .stages import digest, filled, merged, read_jsonl

ARM_KEYS = ("fit", "rule", "match_steps", "gold")


@dataclass
class Sorrybench:
    """Sample preferences, score them, train every arm, and measure how often each refuses before and after.

    Args:
        sample: keys and values of ``lit-pref sample-preferences`` without out; "{seed}" in a text stands for the seed.
        fit: keys and values of ``lit-pref fit`` that all arms share, without the data's path; "{seed}" as above.
        arms: name -> what is different: fit (keys laid over those above), rule (a pruning rule, applied to scores of
            the initial model), match_steps (repeat the kept pairs until an epoch takes as many steps as one of all
            pairs), gold: true (train on gold pairs).
        evaluation: sampling (of answers; its seed plus the run's is the seed), control (harmless prompts: path,
            column, where, limit) and second_judge (class_path and init_args of one that reads the same answers).
        seeds: of the runs.
        out: folder of pairs, scores, runs, answers, table and figure; what is done there is not done again.
        gold: responses with a score by people; keys of ``lit_pref.experiments.gold.Gold``.
        measure: of similarity, that the rules read.
        jobs: arms that train at once.
        keep_checkpoints: whether weights stay on disk once a run has answered.
    """

    sample: dict  # of Any, the parser would fill in defaults of every class_path
    fit: dict
    arms: dict
    evaluation: dict
    seeds: list[int]
    out: str
    gold: dict | None = None
    measure: str = "ln_ches"
    jobs: int = 1
    keep_checkpoints: bool = False

    def __post_init__(self) -> None:
        if not self.seeds or not self.arms or self.jobs < 1:
            raise ConfigError("seeds and arms need at least one entry each, and jobs has to be at least 1")
        check_arms(self.arms, ARM_KEYS)
        for name, arm in self.arms.items():
            if (arm or {}).get("gold") and self.gold is None:
                raise ConfigError(f"arms.{name} trains on gold pairs, but gold says not where they come from.\n"
                                  "  Fix: give gold.path, or leave the arm out.")  # fmt: skip

    def run(self) -> None:
        """Do what is missing, and write ``sorrybench.csv``, ``.md``, ``.png`` and ``.svg``.

        Raises:
            PrefError: a command failed, whose exit code it has; arms that ended well are kept and
                not run again.
        """
        out = Path(self.out).expanduser()
        counts: dict[str, dict[int, dict[str, RefusalCounts]]] = {name: {} for name in (INITIAL, *self.arms)}
        facts: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in self.arms}
        classes: dict[Path, dict[str, Any]] = {}
        failures: dict[str, Failure] = {}
        opinions = Opinions()
        check_judge(self.sample, self.evaluation, self.seeds)
        for seed in self.seeds:
            pairs = self._pairs(seed, out)
            classes[pairs] = json.loads(pairs.with_suffix(".report.json").read_text())
            results, failed = run_preference_arms(self._arms_of(seed, pairs, out), out / "arms", trained, self.jobs)
            failures |= failed
            found = {name: results[own] for name in self.arms if (own := f"{name}_seed{seed}") in results}
            judged = self._labels(seed, pairs, out, found)
            opinions.add(seed, judged)
            for name, own_labels in judged.labels.items():
                counts[name][seed] = {part: RefusalCounts.of(labels) for part, labels in own_labels.items()}
            for name, fact in found.items():
                facts[name][seed] = fact
        if failures:
            raise first_error(failures, len(self.arms) * len(self.seeds))
        self._report(counts, facts, list(classes.values()), opinions, out)

    def _report(
        self,
        counts: report.Counts,
        facts: report.Facts,
        sampling: list[dict[str, Any]],
        opinions: Opinions,
        out: Path,
    ) -> None:
        report.write_csv(out / "sorrybench.csv", counts, facts, opinions)
        text = report.table(counts, facts)
        lines = [", ".join(f"{n} {name}" for name, n in one["classes"].items()) for one in sampling]
        text += "\n\nPairs, train and test: " + "; ".join(lines) + f".\n\n{opinions.footer()}"
        (out / "sorrybench.md").write_text(text + "\n")
        report.draw(counts, [out / "sorrybench.png", out / "sorrybench.svg"])
        say(f"\n{text}\n\nFiles: {out}")

    def _pairs(self, seed: int, out: Path) -> Path:
        """Stands for pairs.train.jsonl and its fellows of a seed; seeds that ask the same share them."""
        path = sampled(filled(self.sample, seed), out, f"seed {seed}")
        if not path.with_suffix(".test.jsonl").exists():
            raise ConfigError(
                f"{path}: there is no test pair.\n  Fix: raise sample.test_share, or sample more prompts."
            )
        return path

    def _config(self, seed: int, pairs: Path, change: dict[str, Any] | None = None) -> dict[str, Any]:
        config = merged(filled(self.fit, seed), filled(change or {}, seed))
        data = {"path": str(pairs.with_suffix(".train.jsonl").resolve()),
                "val_path": str(pairs.with_suffix(".test.jsonl").resolve()),
                "columns": {"labels": ["pair_class"]}}  # fmt: skip
        return {**merged(config, {"data": data}), "seed_everything": seed}

    def _scores(self, seed: int, pairs: Path, out: Path) -> Path:
        return scored(self._config(seed, pairs), self.measure, out, f"seed {seed}")

    def _arms_of(self, seed: int, pairs: Path, out: Path) -> list[Arm]:
        ruled = any((given or {}).get("rule") for given in self.arms.values())
        scores = self._scores(seed, pairs, out) if ruled else None
        arms = []
        for name, given in self.arms.items():
            asked = given or {}
            config = self._config(seed, pairs, asked.get("fit"))
            if asked.get("gold"):
                config = merged(config, {"data": {"path": str(self._gold(pairs).resolve())}})
            arms.append(arm_of(f"{name}_seed{seed}", config, asked, scores, self.measure))
        return arms

    def _gold(self, pairs: Path) -> Path:
        """Gold pairs of the training prompts."""
        assert self.gold is not None
        path = pairs.with_suffix(f".gold-{digest(self.gold)}.jsonl")
        if not path.exists():
            made = Gold(**self.gold).pairs(read_jsonl(pairs.with_suffix(".train.jsonl")))
            write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in made))
        return path

    def _labels(self, seed: int, pairs: Path, out: Path, found: dict[str, dict[str, Any]]) -> Judged:
        """Verdicts on what the initial model and every trained arm of a seed answer."""
        from ..preferences.prompt_source import PromptSource

        sets = {part: PromptSource(str(pairs.with_suffix(f".{part}.jsonl"))) for part in ("train", "test")}
        if self.evaluation.get("control"):
            sets["control"] = PromptSource(**filled(self.evaluation["control"], seed))
        return labels_of(filled(self.sample, seed), filled(self.evaluation, seed), sets, seed, out / "answers",
                         found, self.keep_checkpoints)  # fmt: skip
