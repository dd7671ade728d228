"""The percentile experiment: its arms as processes, what is skipped, what failures leave, its table and figure."""

import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lit_pref.errors import ConfigError, PrefError
from lit_pref.experiments import arms as arms_module
from lit_pref.experiments.arms import Arm, run_arms
from lit_pref.experiments.command import run as run_command
from lit_pref.experiments.percentile_figure import draw
from lit_pref.experiments.percentiles import Percentiles, slice_change, table

ROOT = Path(__file__).resolve().parents[1]


def plan(tmp_path: Path, **changes: Any) -> Percentiles:
    values: dict[str, Any] = {
        "fit": {"model": {"policy": {"path": "models/{seed}"}}, "data": {"path": "pairs"}}, "measures": ["ches"],
        "quantiles": [0.0, 1.0], "count": 4, "seeds": [0, 1], "out": str(tmp_path),
    }  # fmt: skip
    return Percentiles(**{**values, **changes})


class Commands:
    """Stands in for the command line: writes what it would, remembers what it was asked, fails where told to."""

    def __init__(self, failing: str = "none") -> None:
        self.failing = failing
        self.code = 2
        self.said = "error: no such thing\n"
        self.scores = b"scores of the data"
        self.asked: list[list[str]] = []

    def count(self, name: str) -> int:
        return [arguments[0] for arguments in self.asked].count(name)

    def __call__(self, arguments: list[str], log: Path, threads: int | None = None) -> int:
        self.asked.append(arguments)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(self.said)
        if any(self.failing in argument for argument in arguments):
            return self.code
        if arguments[0] == "score":
            assert arguments[arguments.index("--overwrite") + 1] == "true", "data that changed are scored again"
            Path(arguments[arguments.index("--out") + 1]).write_bytes(self.scores)
            return 0
        config = yaml.safe_load(Path(arguments[2]).read_text())
        own = Path(config["run"]["root"]) / config["run"]["name"]
        run = own / f"version_{len(list(own.glob('version_*')))}"
        run.mkdir(parents=True)
        quantile = config["data"]["selection"]["rule"]["init_args"]["quantile"]
        write_ledger(run, [1.0 - quantile, 3.0 - quantile, 100.0])
        return 0


def write_ledger(run: Path, changes: list[float]) -> None:
    """Before and after training; the last row is not trained on."""
    rows = list(range(len(changes)))
    kept = [True] * (len(rows) - 1) + [False]
    columns = {
        "epoch": [0] * len(rows) + [1] * len(rows), "row": rows + rows,
        "displacement": [0.0] * len(rows) + changes, "kept": kept + [None] * len(rows),
    }  # fmt: skip
    pq.write_table(pa.table(columns), run / "ledger.parquet")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands()
    monkeypatch.setattr(arms_module, "command", made)
    monkeypatch.setattr("lit_pref.experiments.percentiles.command", made)
    return made


def test_an_arm_is_measured_on_the_pairs_it_was_trained_on(tmp_path: Path) -> None:
    write_ledger(tmp_path, [1.0, -4.0, 100.0])
    assert slice_change(tmp_path) == {"chosen": -1.5, "pairs": 2}


def test_every_slice_of_every_measure_and_seed_is_trained_once(tmp_path: Path, commands: Commands) -> None:
    plan(tmp_path).run()
    assert [a[0] for a in commands.asked].count("score") == 2, "each seed has a model of its own"
    assert [a[0] for a in commands.asked].count("fit") == 4
    with (tmp_path / "percentiles.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(x["quantile"], x["seed"], float(x["chosen_change_nats"])) for x in lines] == [
        ("0.0", "0", 2.0), ("0.0", "1", 2.0), ("1.0", "0", 1.0), ("1.0", "1", 1.0),
    ]  # fmt: skip
    assert "| ches | +2.00 (+2.00 to +2.00) | +1.00" in (tmp_path / "percentiles.md").read_text()
    config = yaml.safe_load((tmp_path / "arms" / "ches_1_seed1" / "arm.yaml").read_text())
    assert config["model"]["policy"]["path"] == "models/1"
    assert config["seed_everything"] == 1
    assert config["data"]["selection"]["rule"]["init_args"] == {"quantile": 1.0, "count": 4}


def test_seeds_that_share_model_and_data_share_the_scores(tmp_path: Path, commands: Commands) -> None:
    plan(tmp_path, fit={"model": {"policy": {"path": "model"}}, "data": {"path": "pairs"}}).run()
    assert [a[0] for a in commands.asked].count("score") == 1


def test_a_second_run_does_nothing_and_gives_the_same_table(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(tmp_path).run()
    before = (tmp_path / "percentiles.csv").read_bytes()
    plan(tmp_path).run()
    assert (commands.count("score"), commands.count("fit")) == (4, 4), "to score again is free where nothing changed"
    assert "4 of 4 arms were done before" in capsys.readouterr().out
    assert (tmp_path / "percentiles.csv").read_bytes() == before


def test_arms_are_run_again_where_the_data_below_the_same_path_changed(tmp_path: Path, commands: Commands) -> None:
    plan(tmp_path).run()
    commands.scores = b"scores of other data"
    plan(tmp_path).run()
    assert commands.count("fit") == 8
    plan(tmp_path).run()
    assert commands.count("fit") == 8


def test_an_arm_of_another_configuration_is_run_again(tmp_path: Path, commands: Commands) -> None:
    plan(tmp_path).run()
    plan(tmp_path, count=5).run()
    assert commands.count("fit") == 8


def test_a_failed_arm_is_named_and_the_others_are_kept(
    tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.failing = "ches_1_seed0"
    with pytest.raises(PrefError, match="1 of 4 arms failed; the first is ches_1_seed0:\nerror: no such thing"):
        plan(tmp_path).run()
    assert not (tmp_path / "percentiles.csv").exists(), "no table of a part of the arms"
    commands.failing, commands.asked = "none", []
    plan(tmp_path).run()
    assert commands.count("fit") == 1, "only the one that failed"


@pytest.mark.parametrize(("code", "exits"), [(2, 2), (4, 4), (5, 5), (1, 1), (-9, 1)])
@pytest.mark.parametrize("failing", ["score", "ches_1_seed1"])
def test_a_failure_ends_with_the_exit_code_of_the_command(
    failing: str, code: int, exits: int, tmp_path: Path, commands: Commands
) -> None:
    commands.failing, commands.code = failing, code
    with pytest.raises(PrefError, match="failed") as caught:
        plan(tmp_path).run()
    assert caught.value.exit_code == exits


@pytest.mark.parametrize("failing", ["score", "ches_1_seed1"])
def test_what_is_shown_of_a_failure_is_its_error(failing: str, tmp_path: Path, commands: Commands) -> None:
    error = "error: data.path: there is no such file.\n  Fix: one.\n  Or: two.\n  Nothing was trained."
    commands.failing, commands.said = failing, f"error: an earlier one\nNamespace(data=Namespace(path='x'))\n{error}\n"
    with pytest.raises(PrefError) as caught:
        plan(tmp_path).run()
    assert str(caught.value).endswith(f"\n{error}")
    assert "Namespace" not in str(caught.value)
    assert "earlier" not in str(caught.value)
    commands.said = "Traceback\n1\n2\n3\n"
    with pytest.raises(PrefError, match="1\n2\n3$") as caught:
        plan(tmp_path).run()
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"measures": []}, "measures is an empty list"),
        ({"quantiles": []}, "quantiles is an empty list"),
        ({"seeds": []}, "seeds is an empty list"),
        ({"jobs": 0}, "jobs is 0, but must be at least 1"),
        ({"count": 0}, "count is 0, but must be at least 1"),
        ({"quantiles": [0.5, 1.5]}, "quantiles holds 1.5, but each must lie between 0 and 1"),
        ({"quantiles": [-0.1]}, "quantiles holds -0.1"),
        ({"quantiles": [float("nan")]}, "quantiles holds nan"),
    ],
    ids=str,
)
def test_plans_that_cannot_be_are_refused_at_once(
    tmp_path: Path, changes: dict[str, Any], words: str, commands: Commands
) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(tmp_path, **changes)
    assert not commands.asked


def test_a_bad_plan_ends_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"fit": {}, "measures": ["ches"], "quantiles": [2.0], "count": 4, "seeds": [0], "out": str(tmp_path)}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as caught:
        run_command(["percentiles", "--config", str(tmp_path / "plan.yaml")])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: quantiles holds 2.0, but each must lie between 0 and 1\n"


def test_results_damaged_on_disk_are_computed_again(tmp_path: Path, commands: Commands) -> None:
    arm = Arm("a", {"data": {"selection": {"rule": {"init_args": {"quantile": 0.0}}}}})
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "result.json").write_text('{"key": ')
    results, failed = run_arms([arm], tmp_path, slice_change, 1)
    assert (results, failed) == ({"a": {"chosen": 2.0, "pairs": 2}}, {})
    assert json.loads((tmp_path / "a" / "result.json").read_text())["key"] == arm.key


def test_table_and_figure(tmp_path: Path) -> None:
    points = {"ches": {0.0: [1.0, 2.0, 6.0], 1.0: [-1.0, -2.0, -3.0]}, "other": {0.0: [0.0], 1.0: [0.0]}}
    lines = table(points).splitlines()
    assert lines[0] == "| measure | 0% | 100% |"
    assert lines[2] == "| ches | +3.00 (+1.00 to +6.00) | -2.00 (-3.00 to -1.00) |"
    for _ in range(2):
        draw(points, [tmp_path / "a.png", tmp_path / "a.svg"])
        (tmp_path / "a.svg").rename(tmp_path / f"{len(list(tmp_path.glob('*.svg')))}.svg")
    first, second = sorted(tmp_path.glob("*.svg"))
    assert first.read_bytes() == second.read_bytes(), "the same numbers draw the same file"
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_an_unknown_experiment_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(["percentile"])
    assert caught.value.code == 2
    assert "there is no experiment 'percentile'\n  Choices: percentiles" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_trains_slices_for_real(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    """Two slices of real runs; the chosen change is that of the ledger, and of the data of the moment."""
    own = tmp_path / "pairs.jsonl"
    own.write_bytes(pairs_file.read_bytes())
    config = {
        "out": str(tmp_path / "out"), "measures": ["ln_ches"], "quantiles": [0.0, 1.0], "count": 8, "seeds": [0],
        "fit": {
            "model": {
                "policy": {"path": str(model_folder)}, "objective": "objectives.DPO",
                "optimizer": {"class_path": "torch.optim.RMSprop", "init_args": {"lr": 1e-3}},
            },
            "data": {"path": str(own), "batch_size": 4, "val_size": 4},
            "trainer": {"accelerator": "cpu", "max_epochs": 1, "enable_checkpointing": False},
        },
    }  # fmt: skip
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(config))

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lit_pref", "experiment", "percentiles", "--config", str(tmp_path / "plan.yaml")],
            cwd=ROOT, capture_output=True, text=True, timeout=240,
        )  # fmt: skip

    result = run()
    assert result.returncode == 0, result.stderr
    with (tmp_path / "out" / "percentiles.csv").open() as file:
        found = [float(line["chosen_change_nats"]) for line in csv.DictReader(file)]
    for quantile, value in zip((0, 1), found, strict=True):
        ledger = pq.read_table(tmp_path / "out" / "arms" / f"ln_ches_{quantile}_seed0" / "version_0" / "ledger.parquet")
        lines = ledger.to_pylist()
        trained = {line["row"] for line in lines if line["epoch"] == 0 and line["kept"]}
        assert len(trained) == 8
        change = [line["displacement"] for line in lines if line["epoch"] == 1 and line["row"] in trained]
        assert value == pytest.approx(statistics.mean(change))
        assert value != 0
    assert (tmp_path / "out" / "percentiles.svg").exists()
    own.write_text(own.read_text().replace("yes, ", "yes and "))
    result = run()
    assert result.returncode == 0, result.stderr
    with (tmp_path / "out" / "percentiles.csv").open() as file:
        assert [float(line["chosen_change_nats"]) for line in csv.DictReader(file)] != found
    own.write_text("{no pair\n")
    result = run()
    assert result.returncode == 4, "that of the command that failed: bad data"
    assert result.stderr.startswith("error: scoring failed:\nerror: ")
    assert "Namespace" not in result.stderr
