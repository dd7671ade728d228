"""``lit-pref score``: its file, what interrupts it, what it refuses, and the training that reads it."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lit_pref.cli import run as run_cli
from lit_pref.console import counting
from lit_pref.data.datamodule import PreferenceData
from lit_pref.data.tokenized import content_of, tokenized
from lit_pref.encoding import ending_tokens
from lit_pref.errors import SetupError
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from lit_pref.parquet_log import ParquetLog
from lit_pref.similarity import MEASURES, USUAL, Measuring
from lit_pref.similarity.figure import draw
from lit_pref.similarity.summary import summary
from lit_pref.trainer import PrefTrainer

ROOT = Path(__file__).resolve().parents[1]
LINES = ["data", "model", "row", "chosen_tokens", "rejected_tokens"]


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIT_PREF_RUN_DIR", raising=False)


@pytest.fixture
def options(model_folder: Path, pairs_file: Path) -> list[str]:
    return [
        "score", "-c", str(ROOT / "configs/base.yaml"), f"--model.policy.path={model_folder}",
        f"--data.path={pairs_file}", "--trainer.accelerator=cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,500 rows, ten windows."""
    path = tmp_path_factory.mktemp("many") / "many.jsonl"
    rows = [
        {"prompt": f"Number {i}?", "chosen": f" yes{' yes' * (i % 7)}, {i}", "rejected": f" no{' no' * (i % 5)}"}
        for i in range(2500)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def whole(many: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Scores of ``many`` that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "s.parquet"
    run_cli(["score", f"--model.policy.path={model_folder}", f"--data.path={many}", "--trainer.accelerator=cpu",
             f"--out={out}"])  # fmt: skip
    return pq.read_table(out)


def refuse(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run_cli(list(args))
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return int(caught.value.code or 0), said


def started(*args: str, **how: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "lit_pref", *args], env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **how,
    )  # fmt: skip


def on_many(many: Path, model_folder: Path, out: Path | str) -> list[str]:
    return ["score", f"--model.policy.path={model_folder}", f"--data.path={many}", "--trainer.accelerator=cpu",
            f"--out={out}"]  # fmt: skip


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# --- the file -----------------------------------------------------------------------------------------------------


def test_the_quickstart_config_scores(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_cli(["score", "-c", str(ROOT / "configs/quickstart.yaml"), "--out", "out/s.parquet"])
    table = pq.read_table("out/s.parquet")
    assert table.column_names == [*LINES[:3], "id", *LINES[3:], *USUAL]
    assert len(table) == 144
    assert files(tmp_path) == {"out", "out/s.parquet", "out/s.png", "out/s.svg"}, "neither a run's folder nor a log"
    said, progress = capfd.readouterr()
    for words in ("Quantiles", "Spearman", "144 rows: 144 kept", "Scores of 144 pairs: out/s.parquet"):
        assert words in said
    assert progress.count("Scoring pairs: ") == 1
    assert "144 of 144 (" in progress
    assert "pairs/s)" in progress


def test_neither_objective_nor_reference_is_built(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("this is not needed")

    for name in ("objectives.DPO.__init__", "lit_pref.references.FrozenModel.build",
                 "callbacks.Displacement.__init__"):  # fmt: skip
        monkeypatch.setattr(name, never)
    run_cli([*options, "--data.val_path=nowhere.jsonl", "--data.test_path=nowhere.jsonl", "--model.objective=DPO",
             "--trainer.fast_dev_run=true"])  # fmt: skip
    assert len(pq.read_table("scores.parquet")) == 40


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("[ches,alpha_ches]", ["ches", "alpha_ches"]),
        ("all", list(MEASURES)),
        ("usual", list(USUAL)),
        ("edit_similarity", ["edit_similarity"]),
        ("ln_ches,ches,ches", ["ln_ches", "ches"]),
    ],
)
def test_measures_are_named_in_several_ways(given: str, names: list[str], options: list[str]) -> None:
    run_cli([*options, f"--measures={given}"])
    table = pq.read_table("scores.parquet")
    assert table.column_names == [*LINES, *names]
    assert all(table.schema.field(name).type == pa.float64() for name in names)


def test_values_are_those_of_measuring_the_pairs(options: list[str], model_folder: Path, pairs_file: Path) -> None:
    run_cli([*options, "--measures=all"])
    table = pq.read_table("scores.parquet")
    source = CausalLM(str(model_folder))
    tokenizer = source.tokenizer()
    pairs = tokenized(PreferenceData(str(pairs_file)).source, tokenizer, None)
    expected = Measuring(list(MEASURES), ending_tokens(tokenizer), 1024)(source.build(), pairs)
    for name, values in expected.items():
        assert np.array_equal(table[name].to_numpy(), values.numpy(), equal_nan=True), name
    assert table["row"].to_pylist() == list(range(40))
    assert table["chosen_tokens"].to_pylist() == [len(pair.chosen) for pair in pairs]
    assert table["rejected_tokens"].to_pylist() == [len(pair.rejected) for pair in pairs]
    assert table["data"].unique().to_pylist() == [content_of(pairs)]
    assert table["model"].unique().to_pylist() == [source.fingerprint()]


def test_all_pairs_are_there_in_order_and_by_name(options: list[str], tmp_path: Path) -> None:
    """Neither what validates nor what another selection leaves out is left out here; bad rows are listed."""
    rows = [{"id": f"n{i}", "prompt": "p", "chosen": f" a{i}", "rejected": " b"} for i in range(9)]
    rows[4]["chosen"] = ""
    (tmp_path / "named.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "kept.json").write_text('{"data": "other", "rows": [1]}')
    run_cli([*options, "--data.path=named.jsonl", "--data.on_bad_row=drop", "--data.kept_rows=kept.json"])
    table = pq.read_table("scores.parquet")
    assert table.column_names[:4] == ["data", "model", "row", "id"]
    assert table["row"].to_pylist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert table["id"].to_pylist() == [f"n{i}" for i in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert len((tmp_path / "scores.bad_rows.jsonl").read_text().splitlines()) == 1


def test_pandas_and_polars_read_it(whole: pa.Table, many: Path, model_folder: Path, tmp_path: Path) -> None:
    pq.write_table(whole, "s.parquet")
    for frame in (pd.read_parquet("s.parquet"), pl.read_parquet("s.parquet")):
        assert frame.shape == (2500, len(LINES) + len(USUAL))
        assert np.array_equal(np.asarray(frame["ches"]), whole["ches"].to_numpy())
    plan = json.loads(whole.schema.metadata[b"lit_pref.plan"])
    assert plan["measures"] == list(USUAL)
    assert plan["tokens_per_batch"] == 1024
    assert plan["precision"] == "32-true"


def test_strings_take_no_room(many: Path, model_folder: Path) -> None:
    run_cli([*on_many(many, model_folder, "s.parquet"), "--measures=edit_similarity"])
    group = pq.ParquetFile("s.parquet").metadata.row_group(0)
    assert all("RLE_DICTIONARY" in group.column(i).encodings for i in (0, 1))
    assert sum(group.column(i).total_compressed_size for i in (0, 1)) < 600


def test_a_value_that_is_not_a_number_stays_one(options: list[str], tmp_path: Path) -> None:
    """A response that is nothing but its ending has no state of its own to take a cosine of."""
    (tmp_path / "d.jsonl").write_text('{"prompt": "p", "chosen": " a", "rejected": " b"}\n')
    run_cli([*options, "--data.path=d.jsonl", "--measures=[response_cosine,ches]"])
    table = pq.read_table("scores.parquet")
    assert table["response_cosine"].null_count == 0
    from lit_pref.similarity.scoring_run import lines_of

    values = {"ches": torch.tensor([float("nan")], dtype=torch.float64)}
    pairs = tokenized(PreferenceData("d.jsonl").source, CausalLM(options[3].split("=")[1]).tokenizer(), None)
    lines = lines_of([pairs[0]], values, False)
    assert lines["ches"].null_count == 0
    assert np.isnan(lines["ches"][0].as_py())


def test_a_checkpoint_scores_its_policy(options: list[str], tmp_path: Path, model_folder: Path) -> None:
    run_cli(["fit", *options[1:], "--model.objective=DPO", "--model.optimizer.lr=0.1", "--trainer.callbacks=[]",
             "--trainer.callbacks+=LastCheckpoint", "--trainer.limit_val_batches=0", "--run.root=runs"])  # fmt: skip
    (checkpoint,) = (tmp_path / "runs").rglob("last.ckpt")
    run_cli([*options, "--out=before.parquet"])
    run_cli([*options, "--out=after.parquet", f"--ckpt_path={checkpoint}"])
    before, after = pq.read_table("before.parquet"), pq.read_table("after.parquet")
    assert not np.allclose(before["ches"].to_numpy(), after["ches"].to_numpy(), rtol=0.1)
    assert before["model"][0] != after["model"][0]
    module = PreferenceModule(CausalLM(str(model_folder)))
    policy = module.source.build()
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    policy.load_state_dict({key.removeprefix("policy."): value for key, value in weights.items()})
    tokenizer = module.source.tokenizer()
    pairs = tokenized(PreferenceData(options[4].split("=")[1]).source, tokenizer, None)
    expected = Measuring(["ches"], ending_tokens(tokenizer), 1024)(policy, pairs)["ches"]
    assert np.array_equal(after["ches"].to_numpy(), expected.numpy())


def test_two_processes_give_the_bytes_of_one(whole: pa.Table, many: Path, model_folder: Path, tmp_path: Path) -> None:
    run = started(*on_many(many, model_folder, "two.parquet"), "--trainer.devices=2", "--trainer.strategy=ddp")
    said, errors = run.communicate(timeout=200)
    assert run.returncode == 0, errors[-3000:]
    two = pq.read_table("two.parquet")
    assert two.schema.equals(whole.schema, check_metadata=True)
    for name in two.column_names:
        assert two[name].to_numpy().tobytes() == whole[name].to_numpy().tobytes() or name in LINES[:2], name
    assert two.select(LINES).equals(whole.select(LINES))
    assert said.count("Scores of 2,500 pairs") == 1
    assert files(tmp_path) == {"two.parquet", "two.png", "two.svg"}


def test_two_processes_stop_together(options: list[str], tmp_path: Path) -> None:
    """What the first process finds out stops the second too, and is said once."""
    (tmp_path / "mine.parquet").write_text("not scores")
    run = started(*options, "--out=mine.parquet", "--trainer.devices=2", "--trainer.strategy=ddp")
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 2
    assert errors.count("is not a file of scores") == 1
    assert (tmp_path / "mine.parquet").read_text() == "not scores"


def test_python_calls_it_too(model_folder: Path, pairs_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trainer = PrefTrainer(accelerator="cpu", logger=False, limit_predict_batches=0)
    trainer.score(PreferenceModule(CausalLM(str(model_folder))), PreferenceData(str(pairs_file)), "p.parquet", ["ches"])
    assert len(pq.read_table("p.parquet")) == 40
    assert "Predicting" not in capfd.readouterr().out, "one bar is enough"


# --- interruptions ------------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on(whole: pa.Table, many: Path, model_folder: Path, tmp_path: Path) -> None:
    """Killed without notice once two shards are there."""
    run = started(*on_many(many, model_folder, "s.parquet"))
    parts = tmp_path / "s.parquet.parts"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("*.parquet"))) < 2:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    there = len(list(parts.glob("*.parquet")))
    assert 2 <= there < 10, "it was killed in the middle"
    assert not (tmp_path / "s.parquet").exists()
    again = started(*on_many(many, model_folder, "s.parquet"))
    said, progress = again.communicate(timeout=200)
    assert again.returncode == 0, progress
    assert f"continuing: {there} of 10 shards are there" in said
    assert "2,500 of 2,500 (" in progress
    assert pq.read_table("s.parquet").equals(whole, check_metadata=True)
    assert not parts.exists()


def stop_after(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    """End runs once they have written so many shards."""
    from lit_pref.similarity.shards import Shards

    write, written = Shards.write, []

    def counted(self: Shards, number: int, table: pa.Table) -> None:
        if len(written) == shards:
            raise KeyboardInterrupt
        write(self, number, table)
        written.append(number)

    monkeypatch.setattr(Shards, "write", counted)


@pytest.fixture
def stopped(many: Path, model_folder: Path) -> list[str]:
    """A run that ended after three of ten shards; its command line."""
    args = on_many(many, model_folder, "s.parquet")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(SystemExit):
            run_cli(args)
    assert len(list(Path("s.parquet.parts").glob("*.parquet"))) == 3
    return args


def test_damaged_shards_are_computed_again(
    stopped: list[str], whole: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = sorted((tmp_path / "s.parquet.parts").glob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-20])
    pq.write_table(pq.read_table(second).slice(1), second)
    run_cli(stopped)
    said = capsys.readouterr().out
    assert "continuing: 1 of 10 shards are there" in said
    assert [path.name for path in (first, second, third) if f"{path.name}: this shard is damaged" in said] == [
        first.name, second.name,
    ]  # fmt: skip
    assert pq.read_table("s.parquet").equals(whole, check_metadata=True)


def test_shards_of_another_plan_are_discarded(stopped: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run_cli([*stopped, "--tokens_per_batch=2048"])
    said = capsys.readouterr().out
    assert "3 shards of another plan are discarded (other: tokens_per_batch)" in said
    assert "continuing" not in said
    assert len(pq.read_table("s.parquet")) == 2500


def test_two_runs_never_write_the_same_shards(
    stopped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / "s.parquet.parts/lock"):
        code, said = refuse(capsys, *stopped)
    assert code == 2
    assert "another lit-pref score is writing here" in said
    assert len(list((tmp_path / "s.parquet.parts").glob("*.parquet"))) == 3


def test_a_finished_file_is_not_computed_again(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cli(options)
    before = (tmp_path / "scores.parquet").read_bytes()
    (tmp_path / "scores.png").unlink()
    monkeypatch.setattr(CausalLM, "build", lambda self: pytest.fail("the model was loaded"))
    capsys.readouterr()
    run_cli([*options, "--overwrite=true"])
    said = capsys.readouterr().out
    assert "the scores of all 40 pairs are there; nothing is computed again" in said
    assert "Spearman" in said
    assert (tmp_path / "scores.parquet").read_bytes() == before
    assert (tmp_path / "scores.png").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--measures=[ches]"], "the measures (ches, ln_ches, last_hidden, edit_similarity)"),
        (["--trainer.precision=bf16-mixed"], "the precision"),
        (["--data.max_length=1000"], "max_length of the data"),
        (["--model.policy.config.rms_norm_eps=0.1"], "the model"),
    ],
)
def test_a_file_of_another_plan_is_kept_unless_told(
    change: list[str], words: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cli(options)
    before = (tmp_path / "scores.parquet").read_bytes()
    code, said = refuse(capsys, *options, *change)
    assert code == 2
    for part in ("scores.parquet: this file holds other scores", words, "--overwrite true", "left as it is"):
        assert part in said
    assert (tmp_path / "scores.parquet").read_bytes() == before
    assert not (tmp_path / "scores.parquet.parts").exists()
    run_cli([*options, *change, "--overwrite=true"])
    assert (tmp_path / "scores.parquet").read_bytes() != before


def test_a_full_disk_keeps_what_is_done(whole: pa.Table, many: Path, model_folder: Path, tmp_path: Path) -> None:
    """A real file system of 40 KiB, made larger afterwards."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        full = started(*on_many(many, model_folder, disk / "s.parquet"))
        _, errors = full.communicate(timeout=200)
        assert full.returncode == 5
        assert "No space left on device" in errors
        kept = len(list((disk / "s.parquet.parts").glob("*.parquet")))
        assert f"{kept} shards are kept; the same command continues from them" in errors
        assert 0 < kept < 10
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        again = started(*on_many(many, model_folder, disk / "s.parquet"))
        said, errors = again.communicate(timeout=200)
        assert again.returncode == 0, errors
        assert f"continuing: {kept} of 10 shards are there" in said
        assert pq.read_table(disk / "s.parquet").equals(whole, check_metadata=True)
    finally:
        # Lazily: what a reader has mapped may be let go of a moment later.
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_last_file_that_does_not_fit_keeps_all_shards(
    whole: pa.Table, many: Path, model_folder: Path, tmp_path: Path
) -> None:
    """Files may hold 30,000 bytes, enough for every shard and too few for all of them in one."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    run = started(*on_many(many, model_folder, "s.parquet"), preexec_fn=limit)
    _, errors = run.communicate(timeout=200)
    assert run.returncode == 5
    assert "All 10 shards are kept" in errors
    assert files(tmp_path / "s.parquet.parts") == {"lock", "plan.json", *(f"{i:06}.parquet" for i in range(10))}
    assert not (tmp_path / "s.parquet").exists()
    run_cli(on_many(many, model_folder, "s.parquet"))
    assert pq.read_table("s.parquet").equals(whole, check_metadata=True)


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--out=s.csv"], 2, ["--out s.csv: this does not end in .parquet"]),
        (["--out=folder.parquet"], 2, ["is a folder"]),
        (["--out=/proc/nowhere/s.parquet"], 5, ["/proc/nowhere/s.parquet: this file cannot be written", "Fix"]),
        (["--out=file/s.parquet"], 5, ["cannot be written"]),
        (["--measures=chess"], 2, ["there is no measure 'chess'", "Choices: ches, ln_ches"]),
        (["--measures=[]"], 2, ["--measures names none"]),
        (["--tokens_per_batch=0"], 2, ["tokens_per_batch is 0"]),
        (["--ckpt_path=nope.ckpt"], 2, ["nope.ckpt"]),
        (["--ckpt_path=last"], 2, ["--ckpt_path last: this is no file"]),
        (["--ckpt_path=folder.parquet"], 2, ["is a folder, as sharded checkpoints are"]),
        (["--ckpt_path=file"], 2, ["this is no checkpoint of lit-pref fit"]),
        (["--ckpt_path=other.ckpt"], 2, ["does not fit the model", "model.policy"]),
        (["--data.path=nowhere.jsonl"], 4, ["nowhere.jsonl"]),
        (["--model.policy.path=./nowhere"], 5, ["there is no such folder"]),
        (["--outt=x.parquet"], 2, ["Did you mean"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value[0].startswith("--") else "",
)  # fmt: skip
def test_a_mistake_is_answered_in_a_few_lines(
    args: list[str], code: int, words: list[str], options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file").write_text("x")
    torch.save({"state_dict": {"policy.x": torch.zeros(1)}}, tmp_path / "other.ckpt")
    before = files(tmp_path)
    found, said = refuse(capsys, *options, *args)
    assert found == code
    for word in words:
        assert word in said
    assert len(said.strip().splitlines()) <= 5, said
    left = {name for name in files(tmp_path) - before if not name.startswith("scores.parquet.parts")}
    assert left == set()


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_all_else_needs_an_objective(command: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("null.yaml").write_text("model: {objective: null}")
    for empty in ([], ["-c", "null.yaml"]):
        code, said = refuse(capsys, command, *options[1:], *empty)
        assert code == 2
        for word in ("model.objective", "configs/objectives/dpo.yaml", "Choices: AOT", "SimPO"):
            assert word in said
        assert not Path("runs").exists()


def test_python_needs_an_objective_to_train(model_folder: Path, pairs_file: Path) -> None:
    trainer = PrefTrainer(accelerator="cpu", logger=False, use_distributed_sampler=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="model.objective is not set, but only lit-pref score does without one"):
        trainer.fit(PreferenceModule(CausalLM(str(model_folder))), datamodule=PreferenceData(str(pairs_file)))


# --- training that reads it ---------------------------------------------------------------------------------------


@pytest.fixture
def trained(options: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Rows of one epoch of training, in ascending order."""

    def rows(*args: str) -> list[int]:
        found: list[int] = []
        step = PreferenceModule.training_step

        def noted(self: PreferenceModule, batch: Any, batch_idx: int) -> Any:
            found.extend(batch.rows.tolist())
            return step(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(PreferenceModule, "training_step", noted)
            run_cli(
                ["fit", *options[1:], "--model.objective=DPO", "--trainer.callbacks=[]", "--data.val_size=8", *args]
            )
        return sorted(found)

    return rows


@pytest.mark.parametrize("how", ["command line", "yaml"])
def test_training_keeps_the_rows_that_a_rule_chooses(
    how: str, options: list[str], trained: Callable[..., list[int]], tmp_path: Path
) -> None:
    run_cli(options)
    every = trained()
    assert len(every) == 32
    args = ["--data.selection.scores=scores.parquet", "--data.selection.rule=LowestFraction",
            "--data.selection.rule.fraction=0.25", "--data.selection.measure=ches"]  # fmt: skip
    if how == "yaml":
        rule = {"class_path": "LowestFraction", "init_args": {"fraction": 0.25}}
        selection = {"scores": "scores.parquet", "rule": rule, "measure": "ches"}
        (tmp_path / "selection.yaml").write_text(yaml.safe_dump({"data": {"selection": selection}}))
        args = ["-c", "selection.yaml"]
    scores = dict(zip(*pq.read_table("scores.parquet").select(["row", "ches"]).to_pydict().values(), strict=True))
    assert trained(*args) == sorted(sorted(every, key=lambda row: scores[row])[:8])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("wrong data", "holds scores of data with the fingerprint other"),
        ("missing measure", "has no column 'ln_ches'"),
        ("not a file", "not a file of scores"),
        ("no file", "not a file of scores"),
        ("missing rows", "has no scores of"),
    ],
)
def test_a_selection_that_cannot_be_made_is_refused(
    change: str, words: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_cli(options)
    table = pq.read_table("scores.parquet")
    changed = {
        "wrong data": table.set_column(0, "data", pa.array(["other"] * 40)),
        "missing measure": table.drop_columns(["ln_ches"]),
        "missing rows": table.slice(20),
    }
    if change in changed:
        pq.write_table(changed[change], "scores.parquet")
    elif change == "not a file":
        Path("scores.parquet").write_text("x")
    else:
        Path("scores.parquet").unlink()
    code, said = refuse(capsys, "fit", *options[1:], "--model.objective=DPO", "--data.selection.scores=scores.parquet",
                        "--data.selection.rule=LowestFraction", "--data.selection.rule.fraction=0.5")  # fmt: skip
    assert code == 4
    assert words in said
    assert "Nothing was trained" in said


# --- tables and figures -------------------------------------------------------------------------------------------


def test_the_summary_is_a_plain_table() -> None:
    text = summary({"a": [1.0, 2.0, 3.0, 4.0], "b": [4.0, 3.0, 2.0, 1.0], "c": [1.0, 1.0, float("nan"), 1.0]})
    head, first, *_ = text.splitlines()
    assert head.split() == ["Quantiles", "0%", "5%", "25%", "50%", "75%", "95%", "100%"]
    assert first.split() == ["a", "1", "1.15", "1.75", "2.5", "3.25", "3.85", "4"]
    assert "c has no value for 1 of 4 pairs." in text
    assert [line.split() for line in text.splitlines()[-3:]] == [
        ["a", "+1.00", "-1.00", "nan"], ["b", "-1.00", "+1.00", "nan"], ["c", "nan", "nan", "nan"],
    ]  # fmt: skip
    assert "Spearman" not in summary({"a": [1.0]})


FIGURES = {
    "usual": np.random.default_rng(0).normal(size=300),
    "constant": np.full(9, 0.1),
    "not a number": np.full(9, np.nan),
    "one": np.array([2.0]),
    "none": np.array([]),
    "huge": np.array([1.0, 2.0, 3.0, -1e300, 1e300]),
    "tails": np.sinh(np.random.default_rng(0).normal(size=300) * 5),
    "infinite": np.array([1.0, 2.0, 3.0, np.inf, -np.inf]),
    "two values": np.array([-1.0] * 50 + [1.0]),
    "neighbours": np.array([1.0, np.nextafter(1.0, 2.0), 1.0]),
    "whole numbers": np.arange(5.0),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
def test_any_column_can_be_drawn(name: str, tmp_path: Path) -> None:
    png, svg = draw({"ches": FIGURES[name]}, tmp_path / "s.parquet")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert len(png.read_bytes()) > 2000
    first = svg.read_bytes()
    draw({"ches": FIGURES[name]}, tmp_path / "s.parquet")
    assert svg.read_bytes() == first, "equal scores give equal bytes"


def test_a_figure_has_a_panel_a_measure(tmp_path: Path) -> None:
    sizes = [
        len(draw(dict.fromkeys(list(MEASURES)[:count], FIGURES["usual"]), tmp_path / "s.parquet")[1].read_bytes())
        for count in (1, 4, 7)
    ]
    assert sizes[1] > 2.5 * sizes[0]
    assert sizes[2] > 1.5 * sizes[1]


def test_counting_says_how_fast(capsys: pytest.CaptureFixture[str]) -> None:
    with counting("Reading", 2312, "pairs", 2000) as advance:
        time.sleep(0.1)
        advance(100)
        advance(212)
    words = capsys.readouterr().err.split()
    assert words[:4] == ["Reading:", "2,312", "of", "2,312"]
    assert 0 < float(words[4].strip("(").replace(",", "")) < 3120, "what was done before is not this run's speed"
    assert words[5] == "pairs/s)"
    with counting("Reading", 2) as advance:
        advance(2)
    assert capsys.readouterr().err == "Reading: 2 of 2\n"


# --- files that grow ----------------------------------------------------------------------------------------------


def opened(folder: Path, writes: bool = True) -> ParquetLog:
    log = ParquetLog("lines.parquet")
    log.open(folder, writes)
    return log


def test_a_log_grows(tmp_path: Path) -> None:
    log = opened(tmp_path)
    assert log.state_dict() == {"path": None, "lines": 0}
    log.append({"row": [1, 2], "kept": [True, False]})
    log.append({"row": np.array([3]), "kept": np.array([True])})
    assert pq.read_table(log.path).to_pydict() == {"row": [1, 2, 3], "kept": [True, False, True]}
    state = log.state_dict()
    assert (state["path"], state["lines"]) == (str(tmp_path / "lines.parquet"), 3)
    other = opened(tmp_path, writes=False)
    other.append({"row": [4], "kept": [True]})
    assert len(pq.read_table(log.path)) == 3, "one process writes"


def test_a_restart_takes_the_lines_of_its_moment_along(tmp_path: Path) -> None:
    first = opened(tmp_path / "first")
    first.append({"row": [1, 2]})
    state = first.state_dict()
    first.append({"row": [3]})
    second = opened(tmp_path / "second")
    second.load_state_dict(state)
    second.append({"row": [9]})
    assert pq.read_table(second.path)["row"].to_pylist() == [1, 2, 9]
    assert len(pq.read_table(first.path)) == 3, "the earlier run's file is its own"
    first.load_state_dict(state)
    assert pq.read_table(first.path)["row"].to_pylist() == [1, 2]


def test_a_restart_without_the_earlier_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = opened(tmp_path)
    log.load_state_dict({"path": str(tmp_path / "gone.parquet"), "lines": 5, "digest": ""})
    assert "gone.parquet no longer holds the lines of the checkpoint" in capsys.readouterr().out
    assert not (tmp_path / "lines.parquet").exists()
    log.load_state_dict({"path": None, "lines": 0})
    log.append({"row": [1]})
    assert len(pq.read_table(log.path)) == 1


def test_a_log_that_cannot_be_written_keeps_what_it_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(tmp_path)
    log.append({"row": [1]})
    monkeypatch.setattr("pyarrow.parquet.write_table", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(SetupError, match="lines.parquet: this file cannot be written \\(full\\)"):
        log.append({"row": [2]})
    assert files(tmp_path) == {"lines.parquet"}
    assert pq.read_table(log.path)["row"].to_pylist() == [1]
