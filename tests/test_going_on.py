"""What a restart takes from a checkpoint, and what it leaves to the configuration: rows, places in an epoch, files."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lit_pref.cli import run as run_cli
from lit_pref.data.loading import make_loader
from lit_pref.errors import ConfigError
from lit_pref.json_log import JsonLog, read_lines
from lit_pref.order import PairBatches
from lit_pref.parquet_log import ParquetLog, digest
from lit_pref.runs import VARIABLE

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def fit(model_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains with some options and returns the run's folder; 32 pairs in batches of 4."""

    def start(name: str, *options: str) -> Path:
        monkeypatch.delenv(VARIABLE, raising=False)
        run_cli([
            "fit", "-c", str(ROOT / "configs/base.yaml"), "-c", str(ROOT / "configs/objectives/dpo.yaml"),
            f"--model.policy.path={model_folder}", f"--data.path={pairs_file}", "--data.batch_size=4",
            "--data.val_size=8", "--trainer.accelerator=cpu", f"--run.root={tmp_path}", f"--run.name={name}", *options,
        ])  # fmt: skip
        return tmp_path / name / "version_0"

    return start


def chosen(scores: Path, fraction: float) -> list[str]:
    """Options of a selection."""
    return [
        f"--data.selection.scores={scores}", "--data.selection.measure=score",
        "--data.selection.rule=LowestFraction", f"--data.selection.rule.fraction={fraction}",
    ]  # fmt: skip


@pytest.fixture
def scores(model_folder: Path, pairs_file: Path, tmp_path: Path) -> Path:
    from lit_pref.data.fingerprint import fingerprint

    path = tmp_path / "scores.parquet"
    rows = list(range(40))
    pq.write_table(
        pa.table({"data": [fingerprint(str(pairs_file))] * 40, "row": rows, "score": [float(r) for r in rows]}), path
    )
    return path


def steps_of(run: Path) -> int:
    return int(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"])


def test_a_selection_is_the_configurations_not_the_checkpoints(fit: Any, scores: Path, tmp_path: Path) -> None:
    first = fit("first", *chosen(scores, 0.5))
    assert steps_of(first) == 4, "half of 32 pairs"
    state = torch.load(first / "checkpoints" / "last.ckpt", weights_only=True)
    assert "rows" not in state.get("PreferenceData", {})
    last = f"--ckpt_path={first / 'checkpoints' / 'last.ckpt'}"
    assert steps_of(fit("without", last, "--trainer.max_epochs=2")) == 4 + 8
    assert steps_of(fit("other", last, "--trainer.max_epochs=2", *chosen(scores, 0.25))) == 4 + 2


def test_other_pairs_within_an_epoch_are_refused(
    fit: Any, scores: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first = fit("first", "--trainer.max_steps=5")
    last = f"--ckpt_path={first / 'checkpoints' / 'last.ckpt'}"
    for options in (chosen(scores, 0.5), ["--data.batch_size=2"], ["--data.seed=7"]):
        with pytest.raises(SystemExit) as caught:
            fit("other", last, *options)
        assert caught.value.code == 2
        assert "from within an epoch, after 5 of 8 batches" in capsys.readouterr().err
    assert steps_of(fit("same", last)) == 8


def test_rows_chosen_while_training_are_kept_and_said(fit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pruning = [
        "--trainer.callbacks+=CHESPruning", "--trainer.callbacks.rule=LowestFraction",
        "--trainer.callbacks.rule.fraction=0.5",
    ]  # fmt: skip
    first = fit("first", *pruning)
    capsys.readouterr()
    again = fit("again", f"--ckpt_path={first / 'checkpoints' / 'last.ckpt'}", "--trainer.max_epochs=2")
    assert (
        "The checkpoint goes on with 16 of 32 training pairs, chosen while it was trained." in capsys.readouterr().out
    )
    assert steps_of(again) == 8


def test_a_pass_that_is_over_starts_the_next_one_at_its_beginning() -> None:
    def loader(count: int) -> Any:
        return make_loader([], PairBatches(range(count), 4, 1), 0)

    whole = loader(32)
    whole.given = 8
    shorter = loader(12)  # of 3 batches: 8 is no multiple of it
    shorter.load_state_dict(whole.state_dict())
    assert shorter.sampler.start == 0
    whole.given = 5
    same = loader(32)
    same.load_state_dict(whole.state_dict())
    assert same.sampler.start == 5
    with pytest.raises(ConfigError, match="after 5 of 8 batches"):
        shorter.load_state_dict(whole.state_dict())


def test_two_processes_of_half_the_batch_go_on_where_one_was() -> None:
    assert PairBatches(range(9), 4, 1).key == PairBatches(range(9), 2, 1, rank=1, world_size=2).key
    assert PairBatches(range(9), 4, 1).key != PairBatches(range(9), 4, 2).key


def log_in(folder: Path, checkpoint: Path | None = None) -> ParquetLog:
    log = ParquetLog("lines.parquet")
    log.open(folder, True, checkpoint)
    return log


def test_lines_of_another_run_are_not_taken_for_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = log_in(tmp_path / "runs" / "version_0")
    log.append({"epoch": [0, 0]})
    state = log.state_dict()
    (tmp_path / "runs" / "version_0").rename(tmp_path / "moved")
    other = log_in(tmp_path / "runs" / "version_0")  # the name is free again, and another run takes it
    other.append({"epoch": [7, 7]})
    resumed = log_in(tmp_path / "runs" / "version_1")
    resumed.load_state_dict(state)
    assert "no longer holds the lines of the checkpoint" in capsys.readouterr().out
    assert not (tmp_path / "runs" / "version_1" / "lines.parquet").exists()


def test_lines_are_found_beside_a_checkpoint_that_moved(tmp_path: Path) -> None:
    log = log_in(tmp_path / "runs" / "version_0")
    log.append({"epoch": [0, 0]})
    state = log.state_dict()
    log.append({"epoch": [1, 1]})
    (tmp_path / "runs" / "version_0").rename(tmp_path / "moved")
    resumed = log_in(tmp_path / "new", tmp_path / "moved" / "checkpoints" / "last.ckpt")
    resumed.load_state_dict(state)
    assert pq.read_table(tmp_path / "new" / "lines.parquet")["epoch"].to_pylist() == [0, 0]


def test_a_run_that_moved_takes_its_lines_along(fit: Any, tmp_path: Path) -> None:
    """Through the callbacks: the place of the checkpoint tells where the earlier lines are now."""
    options = ["--trainer.callbacks+=Ledger", "--trainer.callbacks.measures=[]"]
    fit("first", *options)
    (tmp_path / "first").rename(tmp_path / "moved")
    last = tmp_path / "moved" / "version_0" / "checkpoints" / "last.ckpt"
    again = fit("again", f"--ckpt_path={last}", "--trainer.max_epochs=2", *options)
    assert set(pq.read_table(again / "ledger.parquet")["epoch"].to_pylist()) == {0, 1, 2}


def test_json_lines_of_another_run_are_not_taken_for_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened(name: str) -> JsonLog:
        log = JsonLog("lines.jsonl")
        log.open(tmp_path / name, True)
        return log

    log = opened("a")
    log.append([{"step": 0}])
    state = log.state_dict()
    log.append([{"step": 1}])
    same = opened("b")
    same.load_state_dict(state)
    assert list(read_lines(tmp_path / "b" / "lines.jsonl")) == [{"step": 0}]
    (tmp_path / "a" / "lines.jsonl").write_text('{"step": 9}\n')  # the name was free again, and another run took it
    other = opened("c")
    other.load_state_dict(state)
    assert "no longer holds the lines of the checkpoint" in capsys.readouterr().out
    assert not (tmp_path / "c" / "lines.jsonl").exists()


def test_a_digest_is_of_lines_however_they_lie_in_memory() -> None:
    table = pa.table({"a": [1.0, None, float("nan")], "b": ["x", None, "y"]})
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert digest(pieces) == digest(table) != digest(table.slice(0, 2))
    assert digest(pa.concat_tables([table, table]).slice(3)) == digest(table)


def test_numbers_that_are_no_scores_are_refused(fit: Any, scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for measure in ("row", "data", "nope"):
        with pytest.raises(SystemExit) as caught:
            fit("x", *chosen(scores, 0.5), f"--data.selection.measure={measure}")
        assert caught.value.code == 4
        assert "its measures: score" in capsys.readouterr().err


def test_a_selection_of_less_than_a_batch_is_refused(
    fit: Any, scores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        fit("x", *chosen(scores, 0.05))
    assert caught.value.code == 4
    said = capsys.readouterr().err
    assert "data.selection would keep 2 of 32 training pairs, less than one batch of 4" in said
    assert "Quantiles of score: 0% " in said


def test_what_a_constructor_refuses_is_said_without_a_list_of_types(
    fit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "bad.yaml"
    rule = {"class_path": "LowestFraction", "init_args": {"fraction": 0}}
    pruning = {"class_path": "callbacks.CHESPruning", "init_args": {"rule": rule}}
    overlay.write_text(yaml.safe_dump({"trainer": {"callbacks": [pruning]}}))
    with pytest.raises(SystemExit) as caught:
        fit("x", "-c", str(overlay))
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: fraction is 0.0, but must be above 0 and at most 1\n"


def test_a_callback_named_twice_is_refused(fit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = {"class_path": "LowestFraction", "init_args": {"fraction": 0.5}}
    pruning = {"class_path": "callbacks.CHESPruning", "init_args": {"rule": rule}}
    overlay = tmp_path / "twice.yaml"
    overlay.write_text(yaml.safe_dump({"trainer": {"callbacks": [pruning, pruning]}}))
    with pytest.raises(SystemExit) as caught:
        fit("x", "-c", str(overlay))
    assert caught.value.code == 2
    assert "name each of these callbacks once" in capsys.readouterr().err
