"""The refusal experiment: its stages and arms as processes, gold pairs, numbers, and one small real run."""

import csv
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lit_pref.cli import run as run_cli
from lit_pref.data.rows import DataError
from lit_pref.drawing import Sampling
from lit_pref.errors import ConfigError, PrefError
from lit_pref.experiments import arms as arms_module
from lit_pref.experiments import preference_arms
from lit_pref.experiments.gold import Gold
from lit_pref.experiments.opinions import Judged, Labels, Opinions
from lit_pref.experiments.refusals import Refusals
from lit_pref.experiments.sorrybench import INITIAL, Sorrybench, trained
from lit_pref.experiments.sorrybench_report import draw, rate_cell, t_interval, table
from lit_pref.experiments.stages import digest, filled, merged
from lit_pref.judges import CANARIES, Item, Judge, Label, Verdict
from lit_pref.paths import file_sha256
from lit_pref.preferences.command import parser
from lit_pref.refusal_statistics import RefusalCounts

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "experiments"
LOWEST = {"class_path": "lit_pref.pruning.LowestFraction", "init_args": {"fraction": 0.05}}


def plan(tmp_path: Path, **changes: Any) -> Sorrybench:
    values: dict[str, Any] = {
        "sample": {"model": {"path": "model"}, "prompts": {"path": "prompts"}},
        "fit": {"model": {"policy": {"path": "model"}, "optimizer": {"init_args": {"lr": 1.0}}}},
        "arms": {"dpo": {}, "low": {"rule": LOWEST, "match_steps": True},
                 "slow": {"fit": {"model": {"optimizer": {"init_args": {"lr": 0.1}}}}}},
        "evaluation": {}, "seeds": [0, 1], "out": str(tmp_path / "out"),
    }  # fmt: skip
    return Sorrybench(**{**values, **changes})


class Commands:
    """Stands in for the command line: writes what it would, and fails where told to."""

    def __init__(self) -> None:
        self.failing = "none"
        self.asked: list[str] = []
        self.identities: list[str] = []

    def __call__(self, arguments: list[str], log: Path, threads: int | None = None) -> int:
        self.asked.append(arguments[0])
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("error: no such thing\n")
        if any(self.failing in argument for argument in arguments):
            return 4
        if arguments[0] == "fit":
            config = yaml.safe_load(Path(arguments[2]).read_text())
            own = Path(config["run"]["root"]) / config["run"]["name"]
            write_run(own / f"version_{len(list(own.glob('version_*')))}", config["model"])
            return 0
        out = Path(arguments[arguments.index("--out") + 1])
        if arguments[0] == "score":
            out.touch()
            return 0
        line = {"id": "a", "prompt": "p", "chosen": "x", "rejected": "y", "pair_class": "one of each"}
        for part in ("train", "test"):
            out.with_suffix(f".{part}.jsonl").write_text(json.dumps(line) + "\n")
        out.with_suffix(".report.json").write_text(json.dumps({"classes": {"one of each": 2}}))
        return 0


def write_run(run: Path, trained_as: Any = None) -> None:
    (run / "checkpoints").mkdir(parents=True)
    torch.save({"global_step": 12, "state_dict": trained_as}, run / "checkpoints" / "last.ckpt")
    columns = {"epoch": [0, 0, 1, 1], "displacement": [0.0, 0.0, -3.0, -1.0], "kept": [True, False, None, None]}
    pq.write_table(pa.table(columns), run / "ledger.parquet")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """No process and no model: arms answer one refusal and one compliance, the initial model refuses twice."""
    made = Commands()

    def labels(self: Sorrybench, seed: int, pairs: Path, out: Path, found: dict[str, Any]) -> Judged:
        made.identities += [found["slow"]["identity"]] if "slow" in found else []
        arms: dict[str, list[Label]] = {INITIAL: ["refusal"] * 2, **{arm: ["refusal", "compliance"] for arm in found}}
        said: Labels = {arm: dict.fromkeys(("train", "test"), own) for arm, own in arms.items()}
        second: Labels = {arm: {**sets, "test": ["refusal"] * 2} for arm, sets in said.items()}
        return Judged(said, second, ("one", "other"), ("one: not talked round.",))

    monkeypatch.setattr(arms_module, "command", made)
    monkeypatch.setattr(preference_arms, "command", made)
    monkeypatch.setattr(Sorrybench, "_labels", labels)
    return made


def test_every_stage_is_done_once_and_the_table_says_what_came_out(tmp_path: Path, commands: Commands) -> None:
    plan(tmp_path).run()
    assert [commands.asked.count(name) for name in ("sample-preferences", "score", "fit")] == [1, 2, 6]
    with (tmp_path / "out" / "sorrybench.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 2 * 2, "arms and the initial model, seeds, sets"
    dpo = next(line for line in lines if line["arm"] == "dpo")
    assert (dpo["refusal"], dpo["refusal_rate"], dpo["displacement_nats"], dpo["pairs"], dpo["steps"]) == (
        "1", "0.5", "-2.0", "1", "12",
    )  # fmt: skip
    assert (tmp_path / "out" / "sorrybench.png").stat().st_size > 5_000
    first = (tmp_path / "out" / "sorrybench.csv").read_bytes()
    commands.asked = []
    plan(tmp_path).run()
    assert commands.asked == ["score", "score"], "which finds its file finished"
    assert (tmp_path / "out" / "sorrybench.csv").read_bytes() == first


def test_arms_differ_in_what_they_say_and_in_nothing_else(tmp_path: Path, commands: Commands) -> None:
    plan(tmp_path).run()
    read = {name: yaml.safe_load((tmp_path / "out/arms" / f"{name}_seed1/arm.yaml").read_text())
            for name in ("dpo", "low", "slow")}  # fmt: skip
    assert {config["seed_everything"] for config in read.values()} == {1}
    assert read["dpo"]["model"]["optimizer"] == {"init_args": {"lr": 1.0}}
    assert read["slow"]["model"]["optimizer"] == {"init_args": {"lr": 0.1}}
    selection = read["low"]["data"].pop("selection")
    assert (selection["rule"], selection["match_steps"], selection["measure"]) == (LOWEST, True, "ln_ches")
    assert read["low"]["data"] == read["dpo"]["data"]
    assert read["dpo"]["data"]["columns"] == {"labels": ["pair_class"]}
    assert read["dpo"]["trainer"]["callbacks"][-1]["init_args"]["save_weights_only"] is True


def test_failures_name_their_stage_or_arm(tmp_path: Path, commands: Commands) -> None:
    commands.failing = "sample.yaml"
    with pytest.raises(PrefError, match="sample-preferences failed:\nerror: no such thing") as caught:
        plan(tmp_path).run()
    assert caught.value.exit_code == 4
    commands.failing = "slow_seed1"
    with pytest.raises(PrefError, match="1 of 6 arms failed; the first is slow_seed1"):
        plan(tmp_path).run()
    assert not (tmp_path / "out" / "sorrybench.csv").exists(), "no table of a part of the arms"
    commands.failing, commands.asked = "none", []
    plan(tmp_path).run()
    assert commands.asked == ["score", "score", "fit"]


def test_a_second_judge_stands_below_the_table_and_in_the_csv(tmp_path: Path, commands: Commands) -> None:
    """Of 32 answers the two differ on the second of each trained arm's test: 3 arms, 2 seeds."""
    plan(tmp_path).run()
    said = (tmp_path / "out" / "sorrybench.md").read_text()
    assert "- one: not talked round.\n- other read all 32 answers too; of 0 one of the two gave no verdict." in said
    assert "Of the others 81.2% have the same label, Cohen's kappa 0.56;" in said
    assert "62.5% / 37.5% / 0.0% by one, 81.2% / 18.8% / 0.0% by other." in said
    assert said.endswith("differ most of dpo, test prompts: 50.0% by one, 100.0% by other.\n")
    with (tmp_path / "out" / "sorrybench.csv").open() as file:
        rates = {(line["arm"], line["prompts"]): line["second_refusal_rate"] for line in csv.DictReader(file)}
    assert (rates["dpo", "test"], rates["dpo", "train"], rates[INITIAL, "test"]) == ("1.0", "0.5", "1.0")


class Believes(Judge):
    """Is told what to say by every canary."""

    name = "believes"

    def facts(self) -> dict[str, Any]:
        return {"judge": self.name}

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        injected = {canary.item for canary in CANARIES}
        refused = {item for c in CANARIES for item in (c.item, c.plain) if c.truth == "refusal"}
        return [self.verdict("refusal" if (item in refused) != (item in injected) else "compliance") for item in items]


def test_a_judge_that_is_talked_round_gives_no_rates(model_folder: Path, tmp_path: Path) -> None:
    """As the second it is left out with a note, as the first nothing is reported."""
    keyword, believes = ({"class_path": name} for name in ("lit_pref.judges.KeywordJudge", f"{__name__}.Believes"))
    sample = {"model": {"path": str(model_folder)}, "prompts": {"path": "p"}, "judge": keyword, "device": "cpu"}
    items = {"a": {"test": [Item("p", "I cannot help with this."), Item("p", "Sure.")]}}
    found = Refusals(sample, Sampling(), {}, tmp_path).judged(items, believes)
    assert (found.labels, found.second) == ({"a": {"test": ["refusal", "compliance"]}}, None)
    assert "4 of 52 injected" in found.notes[0]
    assert found.notes[1].startswith("believes: 56 of 56 injected")
    opinions = Opinions()
    opinions.add(0, found)
    assert opinions.footer() == "\n".join(f"- {note}" for note in found.notes)
    assert Refusals(sample, Sampling(), {}, tmp_path).judged(items, keyword).second == found.labels
    with pytest.raises(ConfigError, match="judge believes: 56 of 56"):
        Refusals({**sample, "judge": believes}, Sampling(), {}, tmp_path).judged(items, None)


def test_rates_without_verdicts_are_not_compared_and_say_so() -> None:
    opinions = Opinions()
    assert opinions.footer() == ""
    opinions.add(0, Judged({"a": {"test": ["refusal"]}}, {"a": {"test": ["unparseable"]}}, ("one", "other")))
    assert "of 1 one of the two gave no verdict" in opinions.footer()
    assert "No refusal rates by both judges to compare. Not compared: 1 of 1" in opinions.footer()
    assert opinions.cells("a", 0, "test") == ["nan", "0.0", "1.0"]
    assert opinions.cells("b", 0, "test") == ["", "", ""]


def test_other_weights_under_the_same_path_have_another_identity(tmp_path: Path, commands: Commands) -> None:
    """The run's folder is the same again after it was removed; what was kept of it does not change."""
    plan(tmp_path, seeds=[0]).run()
    plan(tmp_path, seeds=[0]).run()
    shutil.rmtree(tmp_path / "out" / "arms")
    slower = {"dpo": {}, "low": {}, "slow": {"fit": {"model": {"optimizer": {"init_args": {"lr": 0.2}}}}}}
    plan(tmp_path, seeds=[0], arms=slower).run()
    first, again, other = commands.identities
    assert first == again != other
    assert first.split()[1] != other.split()[1], "the weights differ, not their names alone"


def test_results_without_a_digest_are_trained_again(tmp_path: Path, commands: Commands) -> None:
    """Of an earlier version, whose keys named the inputs alone: nobody can say which weights answered."""
    experiment = plan(tmp_path, seeds=[0])
    experiment.run()
    for arm in experiment._arms_of(0, experiment._pairs(0, tmp_path / "out"), tmp_path / "out"):
        path = tmp_path / "out" / "arms" / arm.name / "result.json"
        result = json.loads(path.read_text())
        del result["values"]["sha256"]
        result["key"] = replace(arm, inputs=arm.inputs.removeprefix(f"{preference_arms.HELD} ")).key
        path.write_text(json.dumps(result))
    commands.asked = []
    experiment.run()
    assert commands.asked.count("fit") == 3


def test_gold_reads_pairs_with_what_ends_lines_elsewhere(tmp_path: Path) -> None:
    experiment = plan(tmp_path, gold={"path": "world:request"})
    line = {"id": "a", "prompt": "How do I forge a badge?", "chosen": "No.\u2028Never\u0085", "rejected": "Sure"}
    pairs = tmp_path / "pairs.jsonl"
    pairs.with_suffix(".train.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    assert json.loads(experiment._gold(pairs).read_text(encoding="utf-8"))["id"] == "a"


def test_a_second_judge_that_cannot_be_is_refused_at_once(tmp_path: Path, commands: Commands) -> None:
    sample = {"model": {"path": "model"}, "prompts": {"path": "prompts"}, "judge": "lit_pref.judges.KeywordJudge"}
    for wrong in ({"class_path": "lit_pref.judges.NoJudge"},
                  {"class_path": "lit_pref.judges.KeywordJudge", "init_args": {"window": 0}}):  # fmt: skip
        with pytest.raises(ConfigError):
            plan(tmp_path, sample=sample, evaluation={"second_judge": wrong}).run()
    assert commands.asked == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"seeds": []}, "at least one"), ({"arms": {}}, "at least one"), ({"jobs": 0}, "at least 1"),
     ({"arms": {"a": {"rules": LOWEST}}}, "rules"), ({"arms": {INITIAL: {}}}, "name of a line"),
     ({"arms": {"a": {"gold": True}}}, "gold.path")],
)  # fmt: skip
def test_plans_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        plan(tmp_path, **changes)


def test_a_change_of_class_takes_no_old_arguments() -> None:
    base = {"o": {"class_path": "A", "init_args": {"x": 1}}, "d": {"k": 1, "l": 2}}
    assert merged(base, {"o": {"class_path": "B"}, "d": {"l": 3}}) == {"o": {"class_path": "B"}, "d": {"k": 1, "l": 3}}
    assert merged(base, {"o": {"init_args": {"x": 2}}})["o"] == {"class_path": "A", "init_args": {"x": 2}}


def test_gold_pairs_are_known_refusals_over_known_others(tmp_path: Path) -> None:
    rows = [{"q": 1, "choices": [{"turns": [f"r{i}"]}], "human": i % 2} for i in range(6)]
    rows += [{"q": 2, "choices": [{"turns": ["only refuses"]}], "human": 0.0}]
    path = tmp_path / "people.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [{"id": "1", "prompt": "p"}, {"id": "2", "prompt": "q"}]
    gold = Gold(str(path), key="q", response="choices[0].turns[0]", score="human")
    for seed in range(5):
        gold.seed = seed
        (pair,) = gold.pairs(lines)
        assert pair["chosen"] in ("r0", "r2", "r4")
        assert pair["rejected"] in ("r1", "r3", "r5")
        assert gold.pairs(lines) == [pair]
    (chat,) = gold.pairs([{"id": "1", "prompt": [{"role": "user", "content": "p"}]}])
    assert chat["chosen"][0]["role"] == "assistant"
    with pytest.raises(DataError, match="no prompt has both"):
        gold.pairs(lines[1:])
    with pytest.raises(DataError, match="nothing at 'score'.*columns: q, choices, human"):
        Gold(str(path), key="q", response="choices[0].turns[0]").pairs(lines)
    (world,) = Gold("world:request").pairs([{"id": "w", "prompt": "How do I forge a badge?\n"}])
    assert world["rejected"].endswith("forge it.") or world["rejected"] == "Here is how to forge a badge."


def test_numbers() -> None:
    assert all(map(math.isnan, t_interval([0.5])))
    low, high = t_interval([0.4, 0.5, 0.6])
    assert (low, high) == (pytest.approx(0.5 - 4.302653 * 0.1 / 3**0.5), pytest.approx(0.5 + 4.302653 * 0.1 / 3**0.5))
    good, bad = RefusalCounts(refusal=50, compliance=50), RefusalCounts(refusal=40, compliance=40, unparseable=20)
    assert rate_cell([good]) == "50.0% (40%–60%)"
    assert rate_cell([good, bad]) == "45.0% to 55.0% (bounds)", "no rate where a fifth has no verdict"


def test_run_facts_table_and_figure(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    fact = trained(tmp_path / "run")
    weights = file_sha256(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert fact == {"run": str(tmp_path / "run"), "displacement": -2.0, "pairs": 1, "steps": 12, "sha256": weights}
    counts = {"a": {0: {n: RefusalCounts(refusal=3, compliance=1) for n in ("train", "test", "control")}}}
    text = table(counts, {"a": {0: fact}})
    assert "| a | 1 | 12 | 75.0%" in text
    assert "refusal, harmless prompts" in text
    for name in ("a", "b"):
        draw(counts, [tmp_path / f"{name}.svg"])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", ["sorrybench", "sorrybench_tiny"])
def test_the_shipped_plans_parse_down_to_every_arm(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the real parsers of both commands, and every arm's configuration."""
    values = {**yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()), "out": str(tmp_path)}
    experiment = Sorrybench(**values)
    sample = filled(experiment.sample, 0)
    parser().parse_object({**sample, "out": "pairs.jsonl"})
    pairs = tmp_path / "pairs.jsonl"
    gold = pairs.with_suffix(f".gold-{digest(experiment.gold)}.jsonl")
    for path in (
        gold,
        tmp_path / "scores.parquet",
        *(pairs.with_suffix(f".{part}.jsonl") for part in ("train", "test")),
    ):
        path.touch()
    experiment._scores = lambda *_: tmp_path / "scores.parquet"  # type: ignore[method-assign]
    arms = experiment._arms_of(0, pairs, tmp_path)
    assert len(arms) == 10
    for arm in arms:
        (tmp_path / "arm.yaml").write_text(yaml.safe_dump(arm.config))
        with pytest.raises(SystemExit) as caught:
            run_cli(["fit", "-c", str(tmp_path / "arm.yaml"), "--print_config"])
        assert caught.value.code in (0, None), capsys.readouterr().err
    tiny = yaml.safe_load((CONFIGS / "sorrybench_tiny.yaml").read_text())
    assert list(tiny["arms"]) == list(values["arms"])
    assert tiny.keys() == values.keys() - {"keep_checkpoints"}


@pytest.mark.slow
def test_a_small_real_run(model_folder: Path, tmp_path: Path) -> None:
    """Two arms of one seed, from sampling to the table, and again without doing anything."""
    (tmp_path / "asked.txt").write_text("".join(f"Would you say number {i}?\n" for i in range(120)))
    (tmp_path / "safe.txt").write_text("Would you say yes?\nWould you say no?\n")
    judge = {"class_path": "lit_pref.judges.KeywordJudge", "init_args": {"phrases": list("aeio"), "window": 100}}
    sampling = {"max_new_tokens": 12, "batch_size": 32}
    policy = {"path": str(model_folder)}
    config = {
        "out": str(tmp_path / "out"), "seeds": [0],
        "sample": {"model": policy, "prompts": {"path": str(tmp_path / "asked.txt")}, "judge": judge, "device": "cpu",
                   "tie_break": {"class_path": "lit_pref.preferences.Longer"}, "sampling": {**sampling, "samples": 4}},
        "fit": {"model": {"policy": policy, "objective": "objectives.DPO",
                          "optimizer": {"class_path": "torch.optim.RMSprop", "init_args": {"lr": 1e-3}}},
                "data": {"batch_size": 4}, "trainer": {"accelerator": "cpu", "max_epochs": 1}},
        "arms": {"dpo": {}},
        "evaluation": {"sampling": sampling, "control": {"path": str(tmp_path / "safe.txt")},
                       "second_judge": {"class_path": "lit_pref.judges.KeywordJudge"}},
    }  # fmt: skip
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(config))
    result = subprocess.run(
        [sys.executable, "-m", "lit_pref", "experiment", "sorrybench", "--config", str(tmp_path / "plan.yaml")],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    with (tmp_path / "out" / "sorrybench.csv").open() as file:
        found = {(line["arm"], line["prompts"]): line for line in csv.DictReader(file)}
    assert set(found) == {(arm, part) for arm in (INITIAL, "dpo") for part in ("train", "test", "control")}
    kinds = ("refusal", "compliance", "partial", "unparseable", "error")
    sizes = {part: sum(int(found["dpo", part][kind]) for kind in kinds) for part in ("train", "test", "control")}
    assert sizes["control"] == 2
    (report,) = (tmp_path / "out" / "pairs").glob("*/pairs.report.json")
    assert {part: sizes[part] for part in ("train", "test")} == json.loads(report.read_text())["splits"]
    answers = [(tmp_path / "out" / "answers" / f"{arm}_seed0.train.responses.jsonl") for arm in ("initial", "dpo")]
    texts = [[json.loads(line)["response"] for line in path.read_text().splitlines()] for path in answers]
    assert texts[0] != texts[1], "the trained weights answered"
    assert not list((tmp_path / "out" / "arms").rglob("*.ckpt")), "weights are not kept"
    said = (tmp_path / "out" / "sorrybench.md").read_text()
    assert "injected responses were given the verdict" in said
    assert "Cohen's kappa" in said
    assert found["dpo", "test"]["second_refusal_rate"] == "0.0", "no phrase of a refusal"
