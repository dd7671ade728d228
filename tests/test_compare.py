"""Comparing objectives: what is planned and refused, what is run once, what goes on, what a failure leaves."""

import csv
import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from lit_pref.__main__ import main
from lit_pref.cli import run as run_cli
from lit_pref.compare import jobs
from lit_pref.compare.arm_job import ArmJob
from lit_pref.compare.board import Board, spoken, steps_done
from lit_pref.compare.folder_lock import locked
from lit_pref.compare.grid import name_of, read_grid
from lit_pref.compare.inputs import Inputs, devices_of, steps_of
from lit_pref.compare.objective_files import objective_files
from lit_pref.compare.options import read
from lit_pref.compare.planned_arm import PlannedArm
from lit_pref.errors import ConfigError
from lit_pref.runs import VARIABLE
from tests.forked import Forked

ROOT = Path(__file__).resolve().parents[1]
CALLBACKS = "ValidateEnds PreferenceMetrics Displacement Trajectories LastCheckpoint".split()
BROKEN = """
from objectives import DPO


class Breaks(DPO):
    def forward(self, policy, reference):
        if self.progress >= 0.5:
            raise RuntimeError("out of luck")
        return super().forward(policy, reference)
"""


@pytest.fixture(scope="module")
def base(model_folder: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all arms share: 32 pairs in batches of 8, two epochs; the folder of the file holds a broken objective."""
    config = {
        "model": {
            "policy": {"path": str(model_folder)},
            "objective": {"class_path": "objectives.DPO", "init_args": {"beta": 9.0, "label_smoothing": 0.3}},
            "optimizer": {"class_path": "torch.optim.RMSprop", "init_args": {"lr": 1e-4}},
        },
        "data": {"path": str(pairs_file), "batch_size": 8, "val_size": 8},
        "trainer": {
            "accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1,
            "callbacks": [{"class_path": f"callbacks.{name}"} for name in CALLBACKS],
        },
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("base")
    (folder / "base.yaml").write_text("# seed {seed}\n" + yaml.safe_dump(config))
    (folder / "broken_objective.py").write_text(BROKEN)
    (folder / "breaks.yaml").write_text("model: {objective: {class_path: broken_objective.Breaks}}\n")
    return folder / "base.yaml"


@pytest.fixture(autouse=True)
def _processes(monkeypatch: pytest.MonkeyPatch, base: Path) -> Iterator[None]:
    monkeypatch.setattr(jobs.subprocess, "Popen", Forked)
    monkeypatch.setattr(jobs, "PAUSE", 0.02)
    monkeypatch.syspath_prepend(str(base.parent))
    monkeypatch.delenv(VARIABLE, raising=False)
    Forked.started, Forked.kill_at = [], None
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def compare(base: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command; gives its exit code and what it said."""

    def start(out: Path, *words: str, objectives: str = "dpo,simpo", seeds: str = "0,1") -> tuple[int, str, str]:
        given = ["--config", str(base), "--objectives", objectives, "--seeds", seeds, "--out", str(out), "--jobs", "2"]
        try:
            main(["compare", *given, *words])
            code: Any = 0
        except SystemExit as error:
            code = error.code
        said = capsys.readouterr()
        return int(code or 0), said.out, said.err

    return start


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that nothing interrupted, with caches of its own."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.subprocess, "Popen", Forked)
        patch.setenv("LIT_PREF_CACHE", str(folder / "cache"))
        main(["compare", "--config", str(base), "--objectives", "dpo,simpo", "--seeds", "0,1", "--jobs", "2",
              "--out", str(folder / "out")])  # fmt: skip
    return folder / "out"


def record_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "compare.json").read_text())


def test_every_arm_is_trained_with_every_seed_and_reported(whole: Path) -> None:
    record = record_of(whole)
    assert [(arm["name"], arm["seed"], arm["state"]) for arm in record["arms"]] == [
        ("dpo", 0, "done"), ("simpo", 0, "done"), ("dpo", 1, "done"), ("simpo", 1, "done"),
    ]  # fmt: skip
    for arm in record["arms"]:
        manifest = json.loads((whole / arm["run"] / "run.json").read_text())
        assert (manifest["seed"], manifest["finished"], manifest["steps"]) == (arm["seed"], True, 8)
        assert json.loads((whole / arm["folder"] / "result.json").read_text())["key"] == arm["key"]
    with (whole / "report" / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["arm"] for line in lines} == {"dpo", "simpo"}
    assert {line["seeds"] for line in lines} == {"0 1"}
    assert (whole / "report" / "report.html").exists()


def test_an_objective_has_its_files_arguments_and_none_of_the_bases(whole: Path) -> None:
    config = yaml.safe_load((whole / "arms" / "dpo_seed1" / "arm.yaml").read_text())
    assert config["model"]["objective"]["init_args"] == {"beta": 0.1, "label_smoothing": 0.0}
    assert config["seed_everything"] == 1


def test_reference_and_scores_are_computed_once(whole: Path) -> None:
    logs = [path.read_text() for path in (whole / "arms").glob("*/log.txt")]
    assert sum("Scoring pairs with the reference" in log for log in logs) == 1
    assert len(list((whole / "scores").glob("*.parquet"))) == 1, "both seeds start at one policy"
    (scores,) = set(record_of(whole)["scores"].values())
    assert pq.read_table(whole / scores).num_rows == 40


def test_the_cached_reference_gives_the_trajectories_of_the_live_one(whole: Path, tmp_path: Path) -> None:
    own = whole / "arms" / "dpo_seed0"
    run_cli(["fit", "--config", str(own / "arm.yaml"), "--model.reference=lit_pref.references.FrozenModel",
             f"--run.root={tmp_path}"])  # fmt: skip
    cached = pq.read_table(own / "version_0" / "trajectories.parquet").to_pydict()
    live = pq.read_table(tmp_path / "dpo_seed0" / "version_0" / "trajectories.parquet").to_pydict()
    for name in ("chosen_logps", "rejected_logps", "chosen_displacement", "rejected_displacement"):
        assert cached[name] == pytest.approx(live[name], abs=2e-4), name
    assert cached["row"] == live["row"]


def test_a_second_start_trains_nothing_and_writes_the_same_table(whole: Path, compare: Any) -> None:
    before = (whole / "report" / "table.csv").read_bytes()
    (whole / "arms" / "dpo_seed0" / "result.json").unlink()
    code, said, _ = compare(whole)
    assert (code, Forked.started) == (0, [])
    assert "4 done before, 0 to do" in said
    assert (whole / "report" / "table.csv").read_bytes() == before
    assert (whole / "arms" / "dpo_seed0" / "result.json").exists()


def test_a_killed_arm_goes_on_and_the_report_is_the_same(whole: Path, tmp_path: Path, compare: Any) -> None:
    out = tmp_path / "out"
    Forked.kill_at = "simpo_seed0"
    code, said, error = compare(out, objectives="dpo,simpo")
    assert code == 1
    assert error == (
        "error: 1 of 4 arms failed; the first is simpo_seed0:\n"
        "It was ended from outside by SIGKILL, which is also what a machine does that runs out of memory.\n"
    )
    assert "simpo_seed0 failed; see" in said
    arm = next(a for a in record_of(out)["arms"] if a["state"] == "failed")
    assert arm["folder"] == "arms/simpo_seed0"
    Forked.started = []
    code, said, _ = compare(out)
    assert code == 0
    assert "go on" in said
    (words,) = Forked.started
    assert words[3:] == ["--ckpt_path", str(out / "arms/simpo_seed0/version_0/checkpoints/last.ckpt")]
    assert (out / "arms" / "simpo_seed0" / "version_1" / "run.json").exists()
    files = {path.relative_to(out / "report") for path in (out / "report").rglob("*.*")}
    assert {str(file) for file in files} >= {"report.html", "report.md", "table.csv", "table.tex"}
    for file in files:
        assert (out / "report" / file).read_bytes() == (whole / "report" / file).read_bytes(), file


def test_a_checkpoint_that_cannot_be_loaded_is_left_behind(tmp_path: Path, compare: Any) -> None:
    Forked.kill_at = "dpo_seed0"
    assert compare(tmp_path, objectives="dpo", seeds="0")[0] == 1
    checkpoint = tmp_path / "arms/dpo_seed0/version_0/checkpoints/last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    code, said, _ = compare(tmp_path, objectives="dpo", seeds="0")
    assert code == 0
    assert "this checkpoint cannot be read" in said
    assert record_of(tmp_path)["arms"][0]["run"] == "arms/dpo_seed0/version_1"


def test_a_failed_arm_is_named_and_the_others_are_reported(base: Path, tmp_path: Path, compare: Any) -> None:
    broken = base.parent / "breaks.yaml"
    code, said, error = compare(tmp_path, objectives=f"{broken},dpo", seeds="0")
    assert code == 1
    assert "RuntimeError: out of luck" in error
    assert "breaks_seed0 failed; see" in said
    assert "breaks" in (tmp_path / "report" / "report.md").read_text()
    assert [arm["state"] for arm in record_of(tmp_path)["arms"]] == ["failed", "done"]


def test_runs_that_were_started_by_hand_are_recognised(tmp_path: Path, compare: Any) -> None:
    code, said, _ = compare(tmp_path, "--print-commands", objectives="dpo", seeds="0")
    assert (code, Forked.started) == (0, [])
    lines = [shlex.split(line.partition(" && ")[2]) for line in said.splitlines()]
    assert [words[:2] for words in lines] == [["lit-pref", "score"], ["lit-pref", "fit"]]
    for words in lines:
        run_cli(words[1:])
        os.environ.pop(VARIABLE, None)
    code, said, _ = compare(tmp_path, objectives="dpo", seeds="0")
    assert (code, Forked.started) == (0, [])
    assert "1 done before" in said


def test_other_settings_or_data_are_another_run(whole: Path, compare: Any, pairs_file: Path, tmp_path: Path) -> None:
    assert "4 to do" in compare(whole, "--dry-run", "--trainer.max_epochs=3")[1]
    assert "4 optimizer steps" in compare(whole, "--dry-run", "--trainer.max_epochs", "1")[1]
    other = tmp_path / "pairs.jsonl"
    other.write_text(pairs_file.read_text().replace("yes, ", "yes and "))
    assert "4 to do" in compare(whole, "--dry-run", f"--data.path={other}")[1]
    assert "4 done before" in compare(whole, "--dry-run")[1]
    assert Forked.started == []


def test_an_interrupt_ends_the_processes(tmp_path: Path, compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(board: Board, job: Any) -> None:
        if len(Forked.started) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Board, "changed", interrupt)
    code, _, error = compare(tmp_path)
    assert code == 130
    assert error == "Interrupted; the processes are ended. The same command goes on from their checkpoints.\n"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_grid_names_arms_and_reaches_their_configurations(tmp_path: Path, compare: Any) -> None:
    code, said, _ = compare(tmp_path, "--grid", "model.objective.beta=0.05,1e-1", "--print_config", seeds="3")
    assert code == 0
    configs = yaml.safe_load(said)
    assert list(configs) == ["dpo_beta=0.05_seed3", "dpo_beta=1e-1_seed3", "simpo_beta=0.05_seed3",
                             "simpo_beta=1e-1_seed3"]  # fmt: skip
    assert [c["model"]["objective"]["init_args"]["beta"] for c in configs.values()] == [0.05, 0.1, 0.05, 0.1]
    assert {c["model"]["reference"]["class_path"] for c in configs.values()} == {"lit_pref.references.CachedModel"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--objectives", "dpo,sipmo"], 2, "there is no objective 'sipmo'. Did you mean 'simpo'?\n  Choices: "),
        (["--grid", "model.objective.gamma_beta_ratio=0.5,1"], 2,
         "objective dpo, --grid model.objective.gamma_beta_ratio=0.5"),
        (["--grid", "model.objective.beta=no"], 2, "objective dpo, --grid model.objective.beta=no"),
        (["--objectives", "dpo,odpo"], 4, "ODPO needs annotated rewards"),
        (["--objectives", "dpo,kto", "--data.batch_size=1"], 2, "KTO compares with the responses of other pairs"),
        (["--trainer.max_step", "3"], 2, "Did you mean 'trainer.max_steps'"),
        (["--baseline", "ipo"], 2, "--baseline ipo: there is no such arm.\n  Choices: dpo, simpo"),
        (["--grid", "data.val_size=4,8"], 2, "on the same pairs from the same policy, so this cannot vary"),
        (["--grid", "trainer.limit_val_batches=1,2"], 2, "from the same policy, so this cannot vary"),
        (["--config", "nowhere.yaml"], 2, "--config nowhere.yaml: this file cannot be read"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_runs(
    words: list[str], code: int, said: str, tmp_path: Path, compare: Any
) -> None:
    found, _, error = compare(tmp_path / "out", *words)
    assert (found, Forked.started) == (code, [])
    assert said in error
    assert not (tmp_path / "out").exists()


def test_arms_with_other_pairs_are_refused(tmp_path: Path, compare: Any) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("model: {objective: {class_path: objectives.IPO}}\ndata: {max_length: 64}\n")
    code, _, error = compare(tmp_path / "out", objectives=f"dpo,{own}")
    assert code == 2
    assert "own and dpo would have different pairs: their data differ in max_length" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--objectives dpo", "--config is missing"),
        ("--config a", "--objectives '': this names nothing"),
        ("--config a --objectives dpo,dpo", "'dpo' stands there twice"),
        ("--config a --objectives dpo --seeds 1,x", "--seeds holds 'x'"),
        ("--config a --objectives dpo --seeds 1,01", "holds a seed twice"),
        ("--config a --objectives dpo --jobs 0", "--jobs is 0"),
        ("--config a --objectives dpo --seed 1", "no key --seed. Did you mean --seeds?"),
        ("--config a --objectives dpo --run.name x", "--run.name: lit-pref compare sets this itself"),
        ("--config a --objectives dpo --model.objective.beta 1", "their values by --grid"),
        ("--config a --objectives dpo ipo", "'ipo' stands alone"),
    ],
)
def test_words_that_mean_nothing_are_refused(words: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(words.split())


def test_a_grid_is_every_combination() -> None:
    points = read_grid(["model.objective.beta=0.1,0.2", "trainer.max_steps=3"])
    assert [name_of("dpo", point) for point in points] == ["dpo_beta=0.1_max_steps=3", "dpo_beta=0.2_max_steps=3"]
    assert read_grid([]) == [{}]
    assert read_grid(["a.b=[1,2],[3]"]) == [{"a.b": "[1,2]"}, {"a.b": "[3]"}]
    assert name_of("x", {"a.b": "1/2", "c.b": "3"}) == "x_a.b=1-2_c.b=3"
    for wrong in ("beta", "=1", "a.b=1,1", "model.policy.path=a,b"):
        with pytest.raises(ConfigError):
            read_grid([wrong])
    with pytest.raises(ConfigError, match="twice"):
        read_grid(["a.b=1", "a.b=2"])


def test_objectives_are_found_here_beside_the_package_and_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert objective_files(["dpo"])["dpo"] == ROOT / "configs/objectives/dpo.yaml"
    (tmp_path / "configs/objectives").mkdir(parents=True)
    own = tmp_path / "configs/objectives/mine.yaml"
    own.write_text("model: {objective: {class_path: objectives.DPO}}")
    assert objective_files(["mine"]) == objective_files([str(own)]) == {"mine": own}
    with pytest.raises(ConfigError, match="would both be named 'mine'"):
        objective_files(["mine", str(own)])
    own.write_text("trainer: {}")
    with pytest.raises(ConfigError, match=r"sets no model\.objective"):
        objective_files(["mine"])


@pytest.mark.parametrize(
    ("trainer", "pairs", "batch", "steps"),
    [
        ({"max_epochs": 2}, 33, 8, 10),
        ({"max_epochs": 2, "max_steps": 3}, 33, 8, 3),
        ({"max_epochs": 2, "max_steps": -1, "accumulate_grad_batches": 2}, 33, 8, 6),
        ({"max_epochs": 1, "limit_train_batches": 0.5}, 33, 8, 2),
        ({"max_epochs": 1, "limit_train_batches": 3}, 33, 8, 3),
        ({"max_epochs": 1, "limit_train_batches": 2.0}, 33, 8, 2),
        ({"max_epochs": 1, "limit_train_batches": 1.0}, 33, 8, 5),
        ({"max_epochs": -1}, 33, 8, None),
        ({"max_epochs": -1, "max_steps": 7}, 33, 8, 7),
        ({}, 8, 8, 1000),
    ],
)
def test_steps_are_counted_as_the_trainer_will(trainer: Any, pairs: int, batch: int, steps: int | None) -> None:
    assert steps_of(trainer, pairs, batch) == steps


def test_devices_and_times_in_words() -> None:
    assert [devices_of({"devices": d, "accelerator": "cpu"}) for d in ("auto", 2, "3", [0, 1])] == [1, 2, 3, 2]
    assert [spoken(s) for s in (5, 600, 7200)] == ["5 s", "10 min", "2.0 h"]


def test_what_a_file_holds_decides_whether_a_run_counts() -> None:
    inputs = Inputs("p", "t", None, 4, {"trainer.callbacks.0.init_args.prompts": "digest"})
    manifest: dict[str, Any] = {"policy": "p", "data": {"train": "t", "val": None}}
    assert inputs.are_of({**manifest, "files": inputs.files})
    assert not inputs.are_of({**manifest, "files": dict.fromkeys(inputs.files, "another")})
    assert not inputs.are_of(manifest), "it does not say what it read"
    assert Inputs("p", "t", None, 4).are_of(manifest), "there was nothing to read"


def test_other_prompts_in_the_same_file_are_another_run(tmp_path: Path, compare: Any) -> None:
    prompts, overlay = tmp_path / "prompts.txt", tmp_path / "asked.yaml"
    prompts.write_text("One?\nTwo?\n")
    judge = {"class_path": "lit_pref.judges.KeywordJudge"}
    asked = {"prompts": str(prompts), "judges": [judge], "sampling": {"max_new_tokens": 2}, "canaries": False}
    asked["cache"] = str(tmp_path / "verdicts.sqlite")  # which the run itself writes to
    rates = [{"class_path": "callbacks.RefusalRate", "init_args": asked}]
    objective = {"class_path": "objectives.DPO"}
    overlay.write_text(yaml.safe_dump({"model": {"objective": objective}, "trainer": {"callbacks": rates}}))
    words = ("--trainer.max_steps", "1")
    assert compare(tmp_path / "out", *words, objectives=str(overlay), seeds="0")[0] == 0
    assert "1 done before" in compare(tmp_path / "out", "--dry-run", *words, objectives=str(overlay), seeds="0")[1]
    prompts.write_text("One?\nThree?\n")
    assert "1 to do" in compare(tmp_path / "out", "--dry-run", *words, objectives=str(overlay), seeds="0")[1]


def test_progress_is_read_from_the_last_line(tmp_path: Path) -> None:
    assert steps_done(tmp_path) is None
    (tmp_path / "metrics.csv").write_text("a,step,b\n1,0,\n,17,2\n")
    assert steps_done(tmp_path) == 17


def test_a_folder_is_one_comparisons_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_pref.compare.folder_lock.PATIENCE", 0.0)
    with locked(tmp_path), pytest.raises(ConfigError, match="work in this folder"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_the_table_of_a_terminal(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = [PlannedArm(name, "dpo", {}, 0, {}) for name in "xy"]
    jobs_ = [ArmJob(arm, whole / "arms" / arm.folder, Inputs("p", "t", None, 4)) for arm in arms]
    jobs_[0].state, jobs_[0].seconds = "done", 10.0
    board = Board(jobs_, 1)
    board.left = jobs_
    assert board.time_left() == 10.0
    assert board._table().row_count == 2
