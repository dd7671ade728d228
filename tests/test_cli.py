"""The command line: what runs, what a run's folder holds, what a mistake is answered with."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union

import pytest
import torch
import yaml

from lit_pref.cli import run as run_cli
from lit_pref.parser import PrefArgumentParser, prefer_whole_numbers
from lit_pref.runs import VARIABLE, RunFolder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def base(model_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A complete config of a run of two steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    config = {
        "run": {"root": str(tmp_path / "runs"), "name": "t"},
        "model": {
            "policy": {"path": str(model_folder)},
            "objective": {"class_path": "objectives.DPO", "init_args": {"beta": 0.2}},
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        },
        "data": {"path": str(pairs_file), "batch_size": 4, "val_size": 5},
        "trainer": {
            "max_steps": 2, "accelerator": "cpu", "log_every_n_steps": 1,
            "callbacks": [{"class_path": "callbacks.ValidateEnds"}, {"class_path": "callbacks.Displacement"},
                          {"class_path": "callbacks.PreferenceMetrics"}, {"class_path": "callbacks.Predictions"},
                          {"class_path": "callbacks.ObjectiveWeights"}, {"class_path": "callbacks.MassShift"}],
        },
    }  # fmt: skip
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def refuse(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    """Exit code and what was said of a run that is refused."""
    with pytest.raises(SystemExit) as caught:
        run_cli(list(args))
    return int(caught.value.code or 0), capsys.readouterr().err


@pytest.fixture
def parsed(base: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The config that a command line resolves to, without running it."""

    def parse(*args: str) -> Any:
        with pytest.raises(SystemExit) as caught:
            run_cli(["fit", "--config", str(base), *args, "--print_config"])
        assert caught.value.code in (0, None), capsys.readouterr().err
        return yaml.safe_load(capsys.readouterr().out)

    return parse


def overlay(tmp_path: Path, name: str, content: Any) -> str:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


# --- a run and its folder -----------------------------------------------------------------------------------------


def test_fit_fills_one_folder(base: Path, tmp_path: Path) -> None:
    run_cli(["fit", "--config", str(base)])
    folder = tmp_path / "runs" / "t" / "version_0"
    names = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "metrics.csv", "bad_rows.jsonl", "checkpoints"} <= names
    assert any(name.startswith("events.out") for name in names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base.yaml", "runs"], "nothing lies beside it"


def test_the_saved_config_runs_the_run_again_byte_for_byte(base: Path, tmp_path: Path) -> None:
    run_cli(["fit", "--config", str(base), "--model.objective.beta", "0.3", "--seed_everything", "5"])
    first = tmp_path / "runs" / "t" / "version_0"
    run_cli(["fit", "--config", str(first / "config.yaml")])
    second = tmp_path / "runs" / "t" / "version_1"
    assert (first / "metrics.csv").read_bytes() == (second / "metrics.csv").read_bytes()
    assert (first / "config.yaml").read_bytes() == (second / "config.yaml").read_bytes()
    weights = [
        torch.load(next((f / "checkpoints").iterdir()), weights_only=True)["state_dict"] for f in (first, second)
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_validate_and_predict(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cli(["fit", "--config", str(base), "--trainer.max_epochs=1", "--trainer.max_steps=-1"])
    checkpoint = next((tmp_path / "runs/t/version_0/checkpoints").iterdir())
    run_cli(["validate", "--config", str(base), "--ckpt_path", str(checkpoint)])
    run_cli(["predict", "--config", str(base), "--ckpt_path", str(checkpoint)])
    lines = (tmp_path / "runs/t/version_2/predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["row"] for row in rows] == list(range(40))
    assert rows[0]["displacement_chosen"] == pytest.approx(
        rows[0]["chosen_logps"] - rows[0]["chosen_reference_logps"], abs=1e-4
    )
    assert "Scores of 40 pairs" in capsys.readouterr().out


@pytest.mark.parametrize("config", ["balanced_gradients", "disentanglement_band", "wpo", "kto", "bco"])
@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_objectives_are_measured_without_training(
    command: str, config: str, base: Path, tmp_path: Path, pairs_file: Path
) -> None:
    """These commands run in inference mode, whose tensors take no part in autograd."""
    run_cli([command, "-c", str(base), "-c", str(ROOT / f"configs/objectives/{config}.yaml"),
             f"--data.test_path={pairs_file}"])  # fmt: skip
    assert any((tmp_path / "runs/t/version_0").iterdir())


def test_names_of_rows_reach_the_predictions(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "named.jsonl"
    path.write_text('{"id": "first", "prompt": "p", "chosen": "a", "rejected": "b"}\n')
    run_cli(["predict", "-c", str(base), "--data.path", str(path)])
    assert json.loads((tmp_path / "runs/t/version_0/predictions.jsonl").read_text())["id"] == "first"


def test_test_measures_the_pairs_of_its_own_path(base: Path, tmp_path: Path, pairs_file: Path) -> None:
    run_cli(["test", "-c", str(base), "--data.test_path", str(pairs_file)])
    header, values = (tmp_path / "runs/t/version_0/metrics.csv").read_text().splitlines()[:2]
    assert dict(zip(header.split(","), values.split(","), strict=True))["displacement/chosen/test"] == "0.0"


@pytest.mark.parametrize("limits", [["--trainer.max_steps=2"], ["--trainer.max_steps=-1", "--trainer.max_epochs=1"]])
def test_a_run_ends_with_a_checkpoint_of_its_last_step(limits: list[str], base: Path, tmp_path: Path) -> None:
    run_cli(["fit", "-c", str(base), "--trainer.callbacks=LastCheckpoint", "--trainer.limit_val_batches=0", *limits])
    (checkpoint,) = (tmp_path / "runs/t/version_0/checkpoints").iterdir()
    assert checkpoint.name == "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == (2 if "2" in limits[0] else 9)


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.fast_dev_run=true"],
        ["--trainer.precision=bf16-mixed"],
        ["--trainer.logger=false"],
        ["--model.reference=CachedModel"],
        ["--model.reference=MovingModel", "--model.reference.every_n_steps=1"],
        ["--model.objective=KTO", "--trainer.callbacks+=ObjectiveWeights"],
        ["--trainer.limit_val_batches=0"],
        ["--model.policy.dtype=bfloat16", "--model.optimizer.lr=1e-7"],
        ["--model.policy.gradient_checkpointing=true"],
        ["--model.objective=SimPO", "--model.reference=NoReference", "--trainer.callbacks=[]"],
        ["--model.scheduler=torch.optim.lr_scheduler.LinearLR", "--model.scheduler.total_iters=4"],
    ],
    ids=str,
)
def test_options_run(options: list[str], base: Path) -> None:
    run_cli(["fit", "-c", str(base), *options])


def test_adapters_from_the_command_line(base: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    run_cli(["fit", "-c", str(base), "--model.policy.lora.r=4", "--model.reference=AdaptersOff"])


def test_runs_never_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    code = f"from lit_pref.runs import RunFolder; print(RunFolder({str(tmp_path)!r}, 'x').claim())"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({process.communicate()[0] for process in started}) == 3
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["version_0", "version_1", "version_2"]


def test_a_folder_that_cannot_be_made_is_an_environment_error(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    code, said = refuse(capsys, "fit", "-c", str(base), "--run.root", str(tmp_path / "file"))
    assert code == 5
    assert "set run.root to a folder that can be written to" in said


def test_run_folder_of_other_processes_is_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = RunFolder(str(tmp_path), "x").claim()
    monkeypatch.setattr("lit_pref.runs.rank_zero_only.rank", 1)
    assert RunFolder(str(tmp_path), "x").claim() == first
    monkeypatch.delenv(VARIABLE)


def test_the_quickstart_shows_displacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signs with slack, no exact values: chosen falls, the margin grows, agreement rises."""
    monkeypatch.delenv(VARIABLE, raising=False)
    run_cli(["fit", "-c", str(ROOT / "configs/quickstart.yaml"), f"--run.root={tmp_path}"])
    with (tmp_path / "quickstart/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))

    def last(tag: str) -> float:
        return float([row[tag] for row in rows if row[tag]][-1])

    assert last("displacement/chosen/val") < -0.2
    assert last("displacement/margin/val") > 1
    assert last("mass/Sure/val") + last("mass/Yes/val") > 0.2
    said = capsys.readouterr().out
    assert "This is likelihood displacement" in said
    assert f"tensorboard --logdir {tmp_path / 'quickstart'}" in said


# --- the three traps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["command line", "overlay"])
def test_no_argument_survives_a_change_of_class(how: str, parsed: Any, tmp_path: Path) -> None:
    """DPO(beta=0.2) in the base, then SimPO: its own beta is 2.0."""
    if how == "overlay":
        args = [
            "-c",
            overlay(tmp_path, "o.yaml", {"model": {"objective": {"class_path": "objectives.SimPO"}}}),
        ]
    else:
        args = ["--model.objective", "SimPO"]
    objective = parsed(*args)["model"]["objective"]
    assert objective["class_path"] == "objectives.SimPO"
    assert objective["init_args"]["beta"] == 2.0
    assert parsed(*args, "--model.objective.beta=3")["model"]["objective"]["init_args"]["beta"] == 3.0


def test_an_unchanged_class_keeps_its_arguments(parsed: Any, tmp_path: Path) -> None:
    change = {"model": {"objective": {"init_args": {"label_smoothing": 0.1}}}}
    arguments = parsed("-c", overlay(tmp_path, "o.yaml", change))["model"]["objective"]["init_args"]
    assert arguments == {"beta": 0.2, "label_smoothing": 0.1}


def callback_names(config: Any) -> list[str]:
    return [callback["class_path"].split(".")[-1] for callback in config["trainer"]["callbacks"]]


def test_an_overlay_adds_callbacks_and_replaces_those_of_its_class(parsed: Any, tmp_path: Path) -> None:
    added = [
        {"class_path": "callbacks.Displacement", "init_args": {"train": False}},
        {"class_path": "callbacks.Dashboard"},
    ]
    config = parsed("-c", overlay(tmp_path, "o.yaml", {"trainer": {"callbacks": added}}))
    assert callback_names(config) == [
        "ValidateEnds", "Displacement", "PreferenceMetrics", "Predictions", "ObjectiveWeights", "MassShift",
        "Dashboard",
    ]  # fmt: skip
    assert config["trainer"]["callbacks"][1]["init_args"]["train"] is False


def test_an_overlay_without_callbacks_keeps_them_and_an_empty_list_clears_them(parsed: Any, tmp_path: Path) -> None:
    assert len(callback_names(parsed("-c", overlay(tmp_path, "o.yaml", {"trainer": {"max_steps": 3}})))) == 6
    assert parsed("-c", overlay(tmp_path, "p.yaml", {"trainer": {"callbacks": []}}))["trainer"]["callbacks"] == []
    assert len(callback_names(parsed("--trainer.callbacks+=Dashboard"))) == 7


def test_several_callbacks_of_one_class_in_one_file_all_stay(parsed: Any, tmp_path: Path) -> None:
    two = [
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": name}} for name in "ab"
    ]
    first = overlay(tmp_path, "two.yaml", {"trainer": {"callbacks": two}})
    second = overlay(tmp_path, "o.yaml", {"trainer": {"max_steps": 3}})
    third = overlay(tmp_path, "p.yaml", {"trainer": {"callbacks": [{"class_path": "callbacks.Dashboard"}]}})
    names = callback_names(parsed("-c", first, "-c", second, "-c", third))
    assert names.count("ModelCheckpoint") == 2
    assert names[-1] == "Dashboard"


@pytest.mark.parametrize("stop", ["--trainer.max_steps=5", "ModelCheckpoint"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_stopped_within_an_epoch_goes_on_where_it_was(
    stop: str, accumulate: int, base: Path, tmp_path: Path
) -> None:
    """Nine batches an epoch, stopped after five steps: same rows, same numbers, same weights, bit for bit."""
    common = ["fit", "-c", str(base), "--trainer.max_epochs=2", "--trainer.max_steps=-1", "--model.optimizer.lr=0.5",
              f"--trainer.accumulate_grad_batches={accumulate}", "--trainer.callbacks+=LastCheckpoint"]  # fmt: skip
    run_cli([*common, "--run.name=straight"])
    every = ["--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
             "--trainer.callbacks.every_n_train_steps=3",
             "--trainer.callbacks.save_top_k=-1"]  # fmt: skip
    steps = ["--trainer.max_steps=3"] if stop != "ModelCheckpoint" else []
    run_cli([*common, "--run.name=stopped", *(every if stop == "ModelCheckpoint" else []), *steps])
    name = "epoch=0-step=3.ckpt" if stop == "ModelCheckpoint" else "last.ckpt"
    run_cli([*common, "--run.name=resumed", f"--ckpt_path={tmp_path / 'runs/stopped/version_0/checkpoints' / name}"])
    weights = [
        torch.load(tmp_path / f"runs/{run}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in ("straight", "resumed")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    rows = [
        list(csv.DictReader((tmp_path / f"runs/{run}/version_0/metrics.csv").open())) for run in ("straight", "resumed")
    ]
    straight, resumed = ({r["step"]: r["loss/train"] for r in run if r["loss/train"]} for run in rows)
    assert resumed
    assert "0" not in resumed
    assert resumed.items() <= straight.items()


def test_a_checkpoint_never_overrides_the_command_line(base: Path, tmp_path: Path) -> None:
    run_cli(["fit", "--config", str(base), "--trainer.max_epochs=1", "--trainer.max_steps=-1"])
    checkpoint = next((tmp_path / "runs/t/version_0/checkpoints").iterdir())
    assert "hyper_parameters" not in torch.load(checkpoint, weights_only=True)
    forged = torch.load(checkpoint, weights_only=True)
    forged["hyper_parameters"] = {"objective": {"class_path": "objectives.DPO", "init_args": {"beta": 0.9}}}
    torch.save(forged, tmp_path / "forged.ckpt")
    run_cli(
        [
            "validate",
            "-c",
            str(base),
            "--ckpt_path",
            str(tmp_path / "forged.ckpt"),
            "--model.objective.beta=0.4",
        ]
    )
    saved = yaml.safe_load((tmp_path / "runs/t/version_1/config.yaml").read_text())
    assert saved["model"]["objective"]["init_args"]["beta"] == 0.4


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--trainer.max_epoch=3"], ["max_epoch", "Did you mean", "'trainer.max_epochs'"]),
        (["--modl.objective=DPO"], ["modl.objective", "'model.objective'"]),
        (["--model.objective=DPPO"], ["no class 'DPPO'", "Choices: AOT, APODown", "SimPO", "WeightedSum"]),
        (["--model.reference=Frozen"], ["no class 'Frozen'", "CachedModel, FrozenModel, MovingModel"]),
        (["--trainer.callbacks+=Displacemnt"], ["no class 'Displacemnt'", "Displacement"]),
        (["--model.objective.betta=1"], ["betta", "Did you mean 'beta'?"]),
        (["--model.objective.beta=x"], ["beta", "float", "x"]),
        (["--model.objective.beta=-1"], ["beta is -1.0, but must be a positive number"]),
        (["--model.objective.label_smoothing=0.6"], ["label_smoothing is 0.6, but must be at least 0 and below 0.5"]),
        (
            ["--model.objective=SimPO", "--model.objective.gamma=1", "--model.objective.gamma_beta_ratio=0.5"],
            ["gamma and gamma_beta_ratio are both given", "keep one"],
        ),
        (["--data.batch_size=0"], ["data.batch_size is 0, but must be at least 1"]),
        (["--data.template.plain=x"], ["data.template.plain is 'x'"]),
        (["--data.columns.chosen=rejected"], ["chosen and rejected name the same column"]),
        (["--trainer.use_distributed_sampler=true"], ["trainer.use_distributed_sampler"]),
        (["--model.reference=AdaptersOff"], ["no adapters to switch off", "model.policy.lora"]),
        (["--model.policy.path=world:agreemint"], ["has no 'world:agreemint'", "world:agreement,"]),
        (["--model.policy.path=world:agreement/no-over-never"], ["names preference data", "'world:agreement'"]),
        (["--config=nowhere.yaml"], ["nowhere.yaml"]),
        (["--config=empty.yaml"], ["the config file is empty"]),
        (["--config=comment.yaml"], ["the config file is empty"]),
        (["--ckpt_path=nope.ckpt"], ["nope.ckpt", "no such file"]),
        (["--trainer.overfit_batches=2"], ["trainer.limit_train_batches"]),
        (["--trainer.default_root_dir=elsewhere"], ["run.root", "run.name"]),
        (["--model.reference=NoReference", "--trainer.callbacks=[]"], ["DPO compares with a reference", "FrozenModel"]),
        (["--config=typo.yaml"], ["model.objektive", "Did you mean 'model.objective'?"]),
    ],
    ids=lambda v: v[0] if isinstance(v, list) and v[0].startswith("--") else "",
)  # fmt: skip
def test_a_wrong_config_is_answered_in_a_few_lines(
    args: list[str], words: list[str], base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay(tmp_path, "empty.yaml", "")
    overlay(tmp_path, "comment.yaml", "# nothing yet\n")
    overlay(tmp_path, "typo.yaml", {"model": {"objektive": {"class_path": "objectives.DPO"}}})
    code, said = refuse(capsys, "fit", "--config", str(base), *args)
    assert code == 2
    for word in words:
        assert word in said
    assert len(said.strip().splitlines()) <= 5, said
    assert "Traceback" not in said


def test_missing_rewards_are_refused_before_a_model_is_loaded(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_pref.models.CausalLM.build", lambda self: pytest.fail("the model was loaded"))
    code, said = refuse(capsys, "fit", "-c", str(base), "--model.objective=ODPO")
    assert code == 4
    assert "ODPO needs annotated rewards" in said
    assert "data.columns.chosen_reward" in said


def test_what_is_required_is_named(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refuse(capsys, "fit")
    assert code == 2
    for key in ("model.policy.path", "model.objective", "data.path"):
        assert key in said


def test_bad_data_exit_with_four_and_a_missing_model_with_five(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "p", "chosen": null, "rejected": "x"}\n')
    code, said = refuse(capsys, "fit", "-c", str(base), "--data.path", str(bad))
    assert code == 4
    assert "bad.jsonl:1" in said
    code, said = refuse(capsys, "fit", "-c", str(base), "--model.policy.path", "./nowhere")
    assert code == 5
    assert "there is no such folder" in said


# --- the command itself -------------------------------------------------------------------------------------------


def command(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "lit_pref", *args], cwd=cwd, capture_output=True, text=True, env=environment
    )


def test_version_and_help_are_quick(tmp_path: Path) -> None:
    """Compared with a bare interpreter, so that a slow machine fails nothing."""

    def best(*command_line: str) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run(
                command_line,
                cwd=tmp_path,
                check=True,
                capture_output=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            times.append(time.perf_counter() - start)
        return min(times)

    bare = best(sys.executable, "-c", "import argparse, json, pathlib")
    for option in ("--version", "--help"):
        assert best(sys.executable, "-m", "lit_pref", option) < 4 * bare
    assert command("--version", cwd=tmp_path).stdout.startswith("lit-pref ")
    assert "fit" in command("--help", cwd=tmp_path).stdout


def test_a_users_own_objective_needs_no_change_of_the_project(base: Path, tmp_path: Path) -> None:
    (tmp_path / "my_losses.py").write_text(
        "import objectives\n\n\nclass MyDPO(objectives.DPO):\n    def __init__(self, beta: float = 0.7) -> None:\n"
        "        super().__init__(beta)\n"
    )
    result = command("fit", "-c", str(base), "--model.objective=my_losses.MyDPO", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    saved = yaml.safe_load((tmp_path / "runs/t/version_0/config.yaml").read_text())
    assert saved["model"]["objective"] == {"class_path": "my_losses.MyDPO", "init_args": {"beta": 0.7}}
    assert "\x1b[" not in result.stdout, "no control characters where there is no terminal"


def test_one_batch_is_one_batch_whatever_was_imported() -> None:
    """typing hands out the order in which a union was written first, anywhere; and 1.0 of all batches is all."""
    parser = PrefArgumentParser()
    parser.add_argument("--limit", type=Union[float, int, None])  # noqa: UP007, as Lightning writes it
    assert isinstance(parser.parse_args(["--limit", "1"]).limit, float), "otherwise this shows nothing"
    prefer_whole_numbers(parser)
    found = [parser.parse_args(["--limit", text]).limit for text in ("1", "1.0", "0.5", "null")]
    assert [(type(value), value) for value in found] == [(int, 1), (float, 1.0), (float, 0.5), (type(None), None)]
