"""The composition experiment: the cut, its cells and arms as processes, its numbers, and one small real run."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lit_pref.cli import run as run_cli
from lit_pref.data.rows import DataError
from lit_pref.errors import ConfigError, PrefError
from lit_pref.experiments import arms as arms_module
from lit_pref.experiments import preference_arms
from lit_pref.experiments.command import run as run_command
from lit_pref.experiments.composition import Composition, _classes
from lit_pref.experiments.composition_cells import BEFORE, Cell
from lit_pref.experiments.composition_figure import draw
from lit_pref.experiments.composition_report import text
from lit_pref.experiments.mixed_share import CLASSES, cut, write_cut
from lit_pref.experiments.opinions import Judged
from lit_pref.experiments.preference_arms import INITIAL
from lit_pref.experiments.refusal_difference import difference
from lit_pref.judges import Label
from lit_pref.preferences.command import parser
from lit_pref.refusal_statistics import RefusalCounts
from lit_pref.world.onpolicy import MIXED, TWO_COMPLIANCES, TWO_REFUSALS

ROOT = Path(__file__).resolve().parents[1]
PLAN = ROOT / "configs" / "experiments" / "composition.yaml"
LOWEST = {"class_path": "lit_pref.pruning.LowestFraction", "init_args": {"fraction": 0.25}}
LINES = [
    {"id": str(i), "prompt": "p", "chosen": "x", "rejected": "y", "pair_class": pair_class}
    for i, pair_class in enumerate(([TWO_REFUSALS] * 3 + [MIXED]) * 20 + [TWO_COMPLIANCES] * 5)
]


def kept(share: Any, seed: int) -> list[str]:
    return [line["id"] for line in cut(LINES, share, seed) if line["pair_class"] == MIXED]


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.03, 2), (0.08, 6), (0.2, 16), ("all", 20)])
def test_the_cut_keeps_so_many_mixed_pairs_and_every_other_pair(share: Any, count: int) -> None:
    """Of 60 + 5 others: 2 of 67 are 3%, 6 of 71 are 8%, 16 of 81 are 20%."""
    lines = cut(LINES, share, 0)
    assert Counter(line["pair_class"] for line in lines) == Counter(
        {TWO_REFUSALS: 60, TWO_COMPLIANCES: 5, **({MIXED: count} if count else {})}
    )
    assert lines == [line for line in LINES if line in lines], "in their order"


def test_the_seed_draws_what_the_cut_keeps() -> None:
    drawn = {seed: kept(0.08, seed) for seed in range(8)}
    assert drawn[3] == kept(0.08, 3)
    assert len({tuple(ids) for ids in drawn.values()}) == 8
    first = [line["id"] for line in LINES if line["pair_class"] == MIXED][:6]
    assert first not in drawn.values()
    for seed, ids in drawn.items():
        assert set(kept(0.03, seed)) < set(ids) < set(kept("all", seed)), "a larger share adds to a smaller one"


def test_the_cut_is_a_file_with_its_counts(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.with_suffix(".train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    path = write_cut(pairs, 0.03, 1)
    assert [json.loads(line) for line in path.read_text().splitlines()] == cut(LINES, 0.03, 1)
    assert json.loads(path.with_suffix(".report.json").read_text()) == {
        "share": 0.03, "seed": 1, "pairs": 67, "dropped": 18, "classes": dict(zip(CLASSES, (60, 5, 2), strict=True)),
    }  # fmt: skip
    assert write_cut(pairs, 0.03, 2) != path
    with pytest.raises(DataError, match=r"pairs.train.jsonl: only 20 of 85 pairs are mixed \(23.5%\).*cut to 0.5") as e:
        write_cut(pairs, 0.5, 1)
    assert e.value.exit_code == 4


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085"])
def test_responses_may_hold_what_ends_lines_elsewhere(tmp_path: Path, mark: str) -> None:
    lines = [{**line, "chosen": f"No.{mark}Never"} for line in LINES]
    pairs = tmp_path / "pairs.jsonl"
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    pairs.with_suffix(".train.jsonl").write_text(text, encoding="utf-8")
    path = write_cut(pairs, "all", 0)
    assert path.read_text(encoding="utf-8") == text
    assert _classes(path, [3, 80]) == {TWO_REFUSALS: 0, TWO_COMPLIANCES: 1, MIXED: 1}


def values(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "sample": {"model": {"path": "model"}, "prompts": {"path": "prompts"}},
        "tie_breaks": {"soft": {"class_path": "S"}, "blunt": {"class_path": "B"}}, "shares": [0.0, 0.08, "all"],
        "arms_at": 0.08, "baseline": "dpo",
        "fit": {"model": {"policy": {"path": "model@{seed}"}}, "trainer": {"max_steps": 12}},
        "arms": {"dpo": {}, "low": {"rule": LOWEST, "match_steps": True}, "slow": {"fit": {"model": {"lr": 0.1}}}},
        "evaluation": {"prompts": {part: {"path": "prompts"} for part in ("train", "test", "control")}},
        "seeds": [0, 1], "out": str(tmp_path / "out"),
    }  # fmt: skip
    return {**plan, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"seeds": []}, "seeds needs at least one"), ({"shares": [0.1, 0.1]}, "none twice"), ({"jobs": 0}, "jobs is 0"),
     ({"shares": [1.0]}, "shares holds 1.0"), ({"arms_at": 0.5}, "arms_at is 0.5, but must be one of shares: 0, 0.08"),
     ({"baseline": "ipo"}, "baseline is 'ipo', but must be one of arms: dpo, low"),
     ({"arms": {"dpo": {"rules": LOWEST}}}, "arms.dpo has rules.*Choices: fit, rule"),
     ({"arms": {"dpo": {}, INITIAL: {}}}, "name of a line"), ({"evaluation": {}}, "lacks train, test, control"),
     ({"sample": {"tie_break": {}}}, "sample.tie_break has no effect")],
)  # fmt: skip
def test_plans_that_cannot_be_end_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        Composition(**values(tmp_path, **changes))
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(values(tmp_path, **changes)))
    with pytest.raises(SystemExit) as caught:
        run_command(["composition", "-c", str(tmp_path / "plan.yaml")])
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


class Commands:
    """Stands in for the command line: writes what it would, and ends with a code where told to."""

    def __init__(self) -> None:
        self.failing, self.code = "none", 4
        self.asked: list[str] = []

    def __call__(self, arguments: list[str], log: Path, threads: int | None = None) -> int:
        self.asked.append(arguments[0])
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("error: no such thing\n")
        if any(self.failing in argument for argument in arguments):
            return self.code
        if arguments[0] == "fit":
            self._fit(yaml.safe_load(Path(arguments[2]).read_text()))
            return 0
        out = Path(arguments[arguments.index("--out") + 1])
        if arguments[0] == "score":
            out.touch()
            return 0
        out.with_suffix(".train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
        out.with_suffix(".report.json").write_text("{}")
        return 0

    def _fit(self, config: dict[str, Any]) -> None:
        own = Path(config["run"]["root"]) / config["run"]["name"]
        run = own / f"version_{len(list(own.glob('version_*')))}"
        (run / "checkpoints").mkdir(parents=True)
        torch.save({"global_step": config["trainer"]["max_steps"]}, run / "checkpoints" / "last.ckpt")
        rows = len(Path(config["data"]["path"]).read_text().splitlines())
        trained_on = [row < 4 or "selection" not in config["data"] for row in range(rows)]
        columns = {"epoch": [0] * rows + [1] * rows, "row": [*range(rows)] * 2,
                   "displacement": [0.0] * rows + [-1.5] * rows, "kept": [*trained_on, *[None] * rows]}  # fmt: skip
        pq.write_table(pa.table(columns), run / "ledger.parquet")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """No process and no model: an arm of soft pairs refuses half of the time, any other model always."""
    made = Commands()

    def labels(self: Composition, seed: int, out: Path, found: dict[str, Any]) -> Judged:
        def said(name: str) -> dict[str, list[Label]]:
            own: list[Label] = ["refusal", "compliance" if "soft" in name else "refusal"] * (4 + seed)
            return dict.fromkeys(("train", "test", "control"), own)

        return Judged({name: said(name) for name in (INITIAL, *found)}, notes=("J: cannot be talked round.",))

    monkeypatch.setattr(arms_module, "command", made)
    monkeypatch.setattr(preference_arms, "command", made)
    monkeypatch.setattr(Composition, "_labels", labels)
    return made


def test_every_cell_is_trained_once_and_counted(tmp_path: Path, commands: Commands) -> None:
    Composition(**values(tmp_path)).run()
    out = tmp_path / "out"
    assert [commands.asked.count(name) for name in ("sample-preferences", "score", "fit")] == [2, 4, 20]
    with (out / "composition.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == (1 + 2 * 5) * 2 * 3, "the initial model and 5 cells of each direction, seeds, sets"
    found = {
        (i["tie_break"], i["mixed_share"], i["arm"]): i for i in lines if (i["seed"], i["prompts"]) == ("1", "test")
    }
    columns = ("pairs", *CLASSES, "steps", "refusal", "compliance", "displacement_nats")
    assert [found["soft", "8%", "dpo"][name] for name in columns] == ["71", "60", "5", "6", "12", "5", "5", "-1.5"]
    assert [found["blunt", "as sampled", "dpo"][name] for name in columns[:4]] == ["85", "60", "5", "20"]
    assert found["soft", "8%", "low"]["pairs"] == "4"
    assert (out / "composition.md").read_text().endswith("\n- J: cannot be talked round.\n")
    files = [out / f"composition.{ending}" for ending in ("csv", "md", "svg", "png")]
    before = [path.read_bytes() for path in files]
    commands.asked = []
    Composition(**values(tmp_path)).run()
    assert set(commands.asked) == {"score"}, "which finds its file finished"
    assert [path.read_bytes() for path in files] == before


def test_cells_differ_in_their_pairs_and_arms_in_what_they_say(tmp_path: Path, commands: Commands) -> None:
    Composition(**values(tmp_path)).run()

    def read(name: str) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load((tmp_path / f"out/arms/{name}_seed1/arm.yaml").read_text())
        del config["run"]["name"]
        return config

    dpo, other, low, slow = (read(n) for n in ("soft_mixed0.08_dpo", "soft_mixed0_dpo", "soft_mixed0.08_low",
                                               "soft_mixed0.08_slow"))  # fmt: skip
    paths = [config["data"].pop("path") for config in (dpo, other, low, slow)]
    assert dpo == other
    assert paths[0] != paths[1]
    assert len({paths[0], *paths[2:]}) == 1
    selection = low["data"].pop("selection")
    assert (selection["rule"], selection["match_steps"]) == (LOWEST, True)
    assert low == dpo
    assert slow["model"].pop("lr") == 0.1
    assert slow == dpo
    assert (dpo["seed_everything"], dpo["model"]["policy"]["path"]) == (1, "model@1")
    blunt = Path(read("blunt_mixed0_dpo")["data"]["path"])
    assert blunt.name == Path(paths[1]).name
    assert blunt.parent != Path(paths[1]).parent


@pytest.mark.parametrize(("code", "exit_code"), [(4, 4), (-9, PrefError.exit_code)])
def test_an_arm_that_fails_or_is_killed_is_named(tmp_path: Path, commands: Commands, code: int, exit_code: int) -> None:
    commands.failing, commands.code = "blunt_mixed0.08_slow_seed1", code
    with pytest.raises(PrefError, match="1 of 20 arms failed; the first is blunt_mixed0.08_slow_seed1") as caught:
        Composition(**values(tmp_path)).run()
    assert caught.value.exit_code == exit_code
    assert not (tmp_path / "out" / "composition.csv").exists(), "no table of a part of the arms"
    commands.failing, commands.asked = "none", []
    Composition(**values(tmp_path)).run()
    assert commands.asked.count("fit") == 1


def counts(*refusals: int, garbled: int = 0, of: int = 100) -> list[RefusalCounts]:
    return [RefusalCounts(refusal=n, compliance=of - n - garbled, unparseable=garbled) for n in refusals]


def test_differences_are_paired_and_keep_their_bounds() -> None:
    plain = difference(counts(40, 50, 60), counts(50, 60, 70))
    assert (plain.low, plain.high) == (pytest.approx(-0.1), pytest.approx(-0.1))
    assert plain.interval == (pytest.approx(-0.1), pytest.approx(-0.1)), "seeds differ much, their differences do not"
    assert (plain.direction, plain.cell()) == (-1, "-10.0 (-10.0 to -10.0)")
    garbled = difference(counts(40, 50, garbled=20), counts(50, 60))
    assert (garbled.low, garbled.high) == (pytest.approx(-0.1), pytest.approx(0.1))
    assert (garbled.direction, garbled.cell()) == (0, "-10.0 to +10.0 (bounds; -10.0 to +10.0)")
    both = difference(counts(40, 50, garbled=20), counts(50, 60, garbled=10))
    assert (both.low, both.high) == (pytest.approx(-0.2), pytest.approx(0.1)), "from one's worst to the other's best"
    assert difference(counts(80, 95), counts(50, 60)).direction == 1
    single = difference(counts(40), counts(50))
    assert (single.direction, single.cell()) == (0, "-10.0")


def outcome(spoilt: bool) -> tuple[dict[Cell, Any], dict[Cell, Any]]:
    """One cell below the initial model, one above, and one where a fifth of the answers may be garbled."""
    cells = [Cell("soft", 0.0, "dpo"), Cell("soft", "all", "dpo"), Cell("soft", 0.0, "other")]
    tests = [counts(50, 52, 54), counts(30, 33, 35), counts(70, 71, 75), counts(20, 51, 80, garbled=20 * spoilt)]
    runs = {cell: {seed: {"train": c, "test": c, "control": c} for seed, c in enumerate(test)}
            for cell, test in zip([BEFORE, *cells], tests, strict=True)}  # fmt: skip
    classes = dict(zip(CLASSES, (6, 1, 3), strict=True))
    fact = {"displacement": -1.0, "pairs": 10, "steps": 26, "classes": classes}
    return runs, {cell: dict.fromkeys(range(3), fact) for cell in cells}


def test_what_the_numbers_say_goes_both_ways_and_hides_no_garbling() -> None:
    said = text(*outcome(spoilt=True), "dpo")
    assert "dpo, ties soft, by share of mixed pairs: refusal lower: 0%; higher: as sampled." in said
    assert "The same, other arms, ties soft, 0% mixed: refusal no change established: other." in said
    assert "refuses less in 1 and more in 1 of 2 compositions of the pairs: the pairs decide which." in said
    assert "have no verdict: soft 0% other." in said
    assert "6 comparisons without a correction" in said
    assert "Every model took 26 optimizer steps" in said
    assert "| soft | 0% | dpo | 10 | 6 | 1 | 3 | 26 | -1.0 (-1.0 to -1.0) |" in said
    (line,) = {line for line in said.splitlines() if line.startswith("| soft | 0% | other") and "bounds" in line}
    assert "| 50.3% to 70.3% (bounds) |" in line
    assert line.split("|")[-2].startswith(" 20.0%"), "the share without a verdict stands beside"
    assert "have no verdict: nowhere." in text(*outcome(spoilt=False), "dpo")
    runs, facts = outcome(spoilt=False)
    facts[Cell("soft", "all", "dpo")] = {0: {**facts[Cell("soft", "all", "dpo")][0], "steps": 27}}
    assert "STEPS DIFFER" in text(runs, facts, "dpo")


def test_the_figure_shows_what_has_no_rate(tmp_path: Path) -> None:
    for name, spoilt in (("a", True), ("b", True), ("c", False)):
        draw(*outcome(spoilt), "dpo", 0.0, [tmp_path / f"{name}.svg"])
    a, b, c = ((tmp_path / f"{name}.svg").read_bytes() for name in "abc")
    assert a == b
    hollow = b"fill: #ffffff; stroke: #0072b2"
    assert a.count(hollow) > 0
    assert c.count(hollow) == 0


def test_the_shipped_plan_parses_down_to_every_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the real parsers of both commands; equal steps are written down for every one."""
    plan = Composition(**{**yaml.safe_load(PLAN.read_text()), "out": str(tmp_path)})
    assert len(plan.cells()) == 2 * (4 + 9)
    for name, prefer in (("softer", "softer"), ("blunter", "blunter")):
        sample = plan._sample(3, name)
        assert sample["tie_break"]["init_args"]["rules"][0]["init_args"] == {"prefer": prefer}
        parser().parse_object({**sample, "out": "pairs.jsonl"})
    (tmp_path / "pairs.jsonl").touch()
    (tmp_path / "scores.parquet").touch()
    found = {}
    for arm in plan.arms.values():
        given = {key: value for key, value in (arm or {}).items() if key != "fit"}
        config = plan._config(3, tmp_path / "pairs.jsonl", (arm or {}).get("fit"))
        made = preference_arms.arm_of("x", config, given, tmp_path / "scores.parquet", plan.measure)
        (tmp_path / "arm.yaml").write_text(yaml.safe_dump(made.config))
        with pytest.raises(SystemExit) as caught:
            run_cli(["fit", "-c", str(tmp_path / "arm.yaml"), "--print_config"])
        output = capsys.readouterr()
        assert caught.value.code in (0, None), output.err
        found[made.key] = yaml.safe_load(output.out)
    assert len(found) == len(plan.arms), "every arm says something of its own"
    assert {config["trainer"]["max_steps"] for config in found.values()} == {26}
    assert {config["model"]["policy"]["path"] for config in found.values()} == {"world:request@3"}


def test_a_small_real_run(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two arms of one seed, from sampling over the cut to the table, and again without doing anything."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads that wait for each other cost more than so little takes
    (tmp_path / "asked.txt").write_text("".join(f"Would you say number {i}?\n" for i in range(100)))
    (tmp_path / "held.txt").write_text("Would you say yes?\nWould you say no?\n")
    judge = {"class_path": "lit_pref.judges.KeywordJudge", "init_args": {"phrases": list("aeio"), "window": 100}}
    sampling = {"max_new_tokens": 12, "batch_size": 32}
    prompts = {part: {"path": str(tmp_path / f"{name}.txt")}
               for part, name in (("train", "asked"), ("test", "held"), ("control", "held"))}  # fmt: skip
    policy = {"path": str(model_folder)}
    optimizer = {"class_path": "torch.optim.RMSprop", "init_args": {"lr": 1e-3}}
    plan = values(
        tmp_path, seeds=[0], shares=[0.1], arms_at=0.1, evaluation={"sampling": sampling, "prompts": prompts},
        tie_breaks={"longer": {"class_path": "lit_pref.preferences.Longer"}}, jobs=2,
        sample={"model": policy, "prompts": {"path": str(tmp_path / "asked.txt")}, "judge": judge, "device": "cpu",
                "test_share": 0.0, "sampling": {**sampling, "samples": 4}},
        fit={"model": {"policy": policy, "objective": "objectives.DPO", "optimizer": optimizer},
             "data": {"batch_size": 2, "val_size": 0}, "trainer": {"accelerator": "cpu", "max_steps": 3}},
        arms={"dpo": {}, "low": {"rule": LOWEST, "match_steps": True}},
    )  # fmt: skip
    Composition(**plan).run()
    out = tmp_path / "out"
    with (out / "composition.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["prompts"] == "train"]
    assert [line["arm"] for line in lines] == [INITIAL, "dpo", "low"]
    (report,) = (json.loads(path.read_text()) for path in (out / "pairs").glob("*/pairs.mixed-0.1-seed0.report.json"))
    others = report["pairs"] - report["classes"][MIXED]
    assert report["classes"][MIXED] == round(0.1 * others / 0.9) > 0
    assert {name: int(lines[1][name]) for name in CLASSES} == report["classes"]
    assert int(lines[2]["pairs"]) == -(-report["pairs"] // 4)
    assert {line["steps"] for line in lines[1:]} == {"3"}
    assert not list(out.rglob("*.ckpt")), "weights are not kept"
    answers = [(out / "answers" / f"{name}_seed0.train.responses.jsonl").read_bytes()
               for name in ("initial", "longer_mixed0.1_dpo", "longer_mixed0.1_low")]  # fmt: skip
    assert len(set(answers)) == 3, "the trained weights answered"
    files = [out / f"composition.{ending}" for ending in ("csv", "md", "svg")]
    before = [path.read_bytes() for path in files]
    asked = []

    def command(arguments: list[str], log: Path, threads: int | None = None) -> int:
        asked.append(arguments[0])
        return 0

    monkeypatch.setattr(arms_module, "command", command)
    monkeypatch.setattr(preference_arms, "command", command)
    Composition(**plan).run()
    assert asked == ["score"], "which would find its file finished"
    assert [path.read_bytes() for path in files] == before
