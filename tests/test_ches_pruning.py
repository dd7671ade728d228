"""Pruning between epochs, through the command line: what is kept, how long training lasts, and what a restart does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch import Tensor
from transformers import AutoModelForCausalLM

from callbacks import CHESPruning
from lit_pref.cli import run as run_cli
from lit_pref.data.datamodule import PreferenceData
from lit_pref.errors import ConfigError
from lit_pref.order import PairBatches, epoch_order, repeated_order
from lit_pref.progress import scheduled_steps, share_done
from lit_pref.pruning import LowestFraction
from lit_pref.runs import VARIABLE
from lit_pref.similarity import Measuring

ROOT = Path(__file__).resolve().parents[1]
PAIRS = 32  # that may be trained on: forty rows, eight of which validate
THREE_QUARTERS = {"class_path": "lit_pref.pruning.LowestFraction", "init_args": {"fraction": 0.75}}
CHECKPOINTS = "lightning.pytorch.callbacks.ModelCheckpoint"


class Runs:
    """Runs of one test: three epochs of 32 pairs in batches of four, so eight steps an epoch where all are kept."""

    def __init__(self, model: Path, pairs: Path, root: Path) -> None:
        self.model, self.pairs, self.root = model, pairs, root

    def arguments(self, name: str, *options: str, callbacks: Sequence[Any] = (), pruning: Any = None) -> list[str]:
        config = {
            "seed_everything": 3,
            "run": {"root": str(self.root / "runs"), "name": name},
            "model": {
                "policy": {"path": str(self.model)},
                "objective": {"class_path": "objectives.DPO", "init_args": {"beta": 0.2}},
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-2}},
            },
            "data": {"path": str(self.pairs), "batch_size": 4, "val_size": 8},
            "trainer": {
                "max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 1,
                "callbacks": [{"class_path": "callbacks.LastCheckpoint"}, *callbacks],
            },
        }  # fmt: skip
        if pruning is not None:
            chosen = {"class_path": "callbacks.CHESPruning", "init_args": {"rule": THREE_QUARTERS, **pruning}}
            config["trainer"]["callbacks"].append(chosen)  # type: ignore[index]
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        return ["fit", "--config", str(path), *options]

    def fit(self, name: str, *options: str, **settings: Any) -> Path:
        """Train; the folder of the run."""
        run_cli(self.arguments(name, *options, **settings))
        return self.folder(name)

    def folder(self, name: str) -> Path:
        return self.root / "runs" / name / "version_0"

    def start(self, arguments: list[str], **variables: str) -> subprocess.Popen[str]:
        """Train in a process of its own."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
        return subprocess.Popen(
            [sys.executable, "-m", "lit_pref", *arguments], cwd=self.root, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def data(self) -> PreferenceData:
        """The data of every run here, with the same split."""
        data = PreferenceData(str(self.pairs), val_size=8, tokenizer=str(self.model))
        data.setup("predict")
        return data


@pytest.fixture
def runs(model_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return Runs(model_folder, pairs_file, tmp_path)


def checkpoint(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "checkpoints" / name, weights_only=True)
    return loaded


def lines(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "kept_rows.parquet").to_pylist()
    return found


def choices(folder: Path) -> dict[int, tuple[list[int], list[int]]]:
    """Epoch -> rows to choose from, rows kept."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    for line in lines(folder):
        candidates, kept = found.setdefault(line["epoch"], ([], []))
        candidates.append(line["row"])
        kept += [line["row"]] if line["kept"] else []
    return found


def same_end(first: Path, second: Path) -> None:
    """Bitwise the same weights, optimizer and kept rows."""
    one, two = (checkpoint(folder) for folder in (first, second))
    assert one["global_step"] == two["global_step"]
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for key, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][key]), key
    states = [run["optimizer_states"][0]["state"] for run in (one, two)]
    assert all(torch.equal(states[0][i][k], states[1][i][k]) for i in states[0] for k in states[0][i])
    assert lines(first) == lines(second)
    assert one["PreferenceData"] == two["PreferenceData"]


# --- what is kept -------------------------------------------------------------------------------------------------


@torch.no_grad()
def plain_ln_ches(weights: dict[str, Tensor], folder: Path, data: PreferenceData, row: int) -> float:
    """LN-CHES of a pair in float64, one sequence at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    model.load_state_dict({key.removeprefix("policy."): value for key, value in weights.items()})
    assert data.train is not None
    pair, means = data.train[row], []
    for response in (pair.chosen, pair.rejected):
        ids = torch.tensor([[*pair.prompt, *response]])
        states = model(ids, output_hidden_states=True).hidden_states[-1][0]
        means.append(states[len(pair.prompt) - 1 : -1].mean(0))
    return float(means[0] @ means[1] - means[0] @ means[0])


def test_kept_rows_are_the_lowest_under_the_policy_of_that_moment(runs: Runs) -> None:
    every = {"class_path": CHECKPOINTS, "init_args": {"every_n_epochs": 1, "save_top_k": -1, "filename": "{epoch}"}}
    folder = runs.fit("t", callbacks=[every], pruning={})
    data = runs.data()
    start = AutoModelForCausalLM.from_pretrained(runs.model, dtype=torch.float64).state_dict()
    weights = [start] + [checkpoint(folder, f"epoch={epoch}.ckpt")["state_dict"] for epoch in (0, 1)]
    left = data.train_positions
    assert len(left) == PAIRS
    moved = []
    for epoch, state in enumerate(weights):
        scores = {row: plain_ln_ches(state, runs.model, data, row) for row in left}
        written = {line["row"]: line for line in lines(folder) if line["epoch"] == epoch}
        assert sorted(written) == left, "chosen among those that are still there"
        for row, line in written.items():
            assert line["score"] == pytest.approx(scores[row], rel=1e-4, abs=1e-6)
        size = -(-len(left) * 3 // 4)
        moved.append(sorted(scores, key=lambda row: scores[row])[:size])
        left = sorted(moved[-1])
        assert [row for row, line in sorted(written.items()) if line["kept"]] == left
    assert [len(rows) for rows in moved] == [24, 18, 14]
    assert checkpoint(folder)["global_step"] == 6 + 5 + 4
    assert checkpoint(folder)["PreferenceData"]["rows"] == left


def test_every_candidate_has_a_line_with_its_reason(runs: Runs) -> None:
    folder = runs.fit("t", pruning={"measure": "edit_similarity"})
    found = lines(folder)
    assert [len(c) for c, _ in choices(folder).values()] == [32, 24, 18]
    assert set(found[0]) == {"epoch", "row", "measure", "score", "kept", "reason"}
    assert {line["measure"] for line in found} == {"edit_similarity"}
    assert {(line["kept"], line["reason"]) for line in found} == {(True, "lowest 0.75"), (False, "not lowest 0.75")}
    data = runs.data()
    for line in found:
        assert data.train is not None
        pair = data.train[line["row"]]
        assert -1 <= line["score"] <= 0
        assert line["score"] == 0 or list(pair.chosen) != list(pair.rejected)


def test_what_is_kept_is_said_and_logged(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.fit("t", pruning={})
    said = capsys.readouterr().out
    assert "Epoch 0: 24 of 32 training pairs are kept by ln_ches" in said
    assert "Epoch 2: 14 of 18 training pairs are kept by ln_ches" in said
    text = (folder / "metrics.csv").read_text().splitlines()
    column = text[0].split(",").index("pruning/kept/train")
    shares = [float(line.split(",")[column]) for line in text[1:] if line.split(",")[column]]
    assert shares == [24 / 32, 18 / 32, 14 / 32]


@pytest.mark.parametrize(
    ("pruning", "candidates"),
    [
        ({"from_epoch": 1}, {1: 32, 2: 24}),
        ({"every_n_epochs": 2}, {0: 32, 2: 24}),
        ({"every_n_epochs": 2, "from_epoch": 1}, {1: 32}),
        ({"cumulative": False}, {0: 32, 1: 32, 2: 32}),
    ],
    ids=str,
)
def test_epochs_that_are_chosen_for(pruning: dict[str, Any], candidates: dict[int, int], runs: Runs) -> None:
    folder = runs.fit("t", pruning=pruning)
    found = choices(folder)
    assert {epoch: len(rows) for epoch, (rows, _) in found.items()} == candidates
    steps, kept = 0, PAIRS
    for epoch in range(3):
        kept = len(found[epoch][1]) if epoch in found else kept
        steps += -(-kept // 4)
    assert checkpoint(folder)["global_step"] == steps


def test_pairs_come_back_where_all_are_chosen_from_each_time(runs: Runs) -> None:
    """A rule that reads nothing but its seed and epoch draws others each time."""
    rule = {"class_path": "lit_pref.pruning.RandomSubset", "init_args": {"rule": THREE_QUARTERS}}
    kept = [set(kept) for _, kept in choices(runs.fit("t", pruning={"rule": rule, "cumulative": False})).values()]
    assert [len(rows) for rows in kept] == [24, 24, 24]
    assert kept[1] - kept[0]
    assert kept[2] - kept[1]
    nested = choices(runs.fit("u", pruning={"rule": rule})).values()
    smaller = [set(kept) for _, kept in nested]
    assert smaller[2] < smaller[1] < smaller[0]


def test_what_a_control_shares_with_its_rule_is_said_and_logged(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    rule = {"class_path": "lit_pref.pruning.HighestScores", "init_args": {"rule": THREE_QUARTERS}}
    folder = runs.fit("t", "--trainer.max_epochs=1", pruning={"rule": rule})
    assert "67% of them are kept by the controlled rule too." in capsys.readouterr().out, "16 of 24"
    text = (folder / "metrics.csv").read_text().splitlines()
    column = text[0].split(",").index("pruning/overlap/train")
    assert [float(line.split(",")[column]) for line in text[1:] if line.split(",")[column]] == [pytest.approx(16 / 24)]
    plain = runs.fit("u", "--trainer.max_epochs=1", pruning={})
    assert "overlap" not in (plain / "metrics.csv").read_text()
    assert "controlled rule" not in capsys.readouterr().out


def test_epochs_that_share_a_loader_are_refused_before_anything_is_scored(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, callback in (
        ("a", {"class_path": "callbacks.CHESPruning", "init_args": {"rule": THREE_QUARTERS}}),
        ("b", {"class_path": "callbacks.Ledger"}),
        ("c", {"class_path": "callbacks.DisplacementGuard", "init_args": {"budget_nats": 1.0, "action": "prune"}}),
    ):
        with pytest.raises(SystemExit) as caught:
            runs.fit(name, "--trainer.reload_dataloaders_every_n_epochs=2", callbacks=[callback])
        assert caught.value.code == 2
        said = capsys.readouterr()
        assert "acts before every epoch, but trainer.reload_dataloaders_every_n_epochs is 2.\n  Fix: " in said.err
        assert "coring pairs" not in said.out
        assert "easuring pairs" not in said.out


def test_what_the_data_leave_out_never_comes_back(runs: Runs) -> None:
    """Rows of data.kept_rows are all there is, also where pairs may come back."""
    data = runs.data()
    assert data.train is not None
    rows = data.train_positions[:20]
    (runs.root / "rows.json").write_text(json.dumps({"data": data.train.meta["content"], "rows": rows}))
    folder = runs.fit("t", f"--data.kept_rows={runs.root / 'rows.json'}", pruning={"cumulative": False})
    assert [sorted(candidates) for candidates, _ in choices(folder).values()] == [rows] * 3


def test_a_pair_without_a_score_is_left_out_and_said_to_be(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    measure = Measuring.__call__

    def without_two(self: Any, model: Any, pairs: Any, *rest: Any) -> Any:
        found = measure(self, model, pairs, *rest)
        for i, pair in enumerate(pairs):
            found["ln_ches"][i] = float("nan") if pair.row in unscored else found["ln_ches"][i]
        return found

    unscored = runs.data().train_positions[3:5]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Measuring, "__call__", without_two)
        rule = {"class_path": "lit_pref.pruning.LowestFraction", "init_args": {"fraction": 1.0}}
        folder = runs.fit("t", "--trainer.max_epochs=1", pruning={"rule": rule})
    found = {line["row"]: line for line in lines(folder)}
    assert [row for row, line in found.items() if line["reason"] == "no score"] == unscored
    assert [row for row, line in found.items() if not line["kept"]] == unscored
    assert "nan" not in capsys.readouterr().out


def test_validation_pairs_are_neither_scored_nor_kept(runs: Runs) -> None:
    folder = runs.fit("t", pruning={"cumulative": False})
    data = runs.data()
    seen = {line["row"] for line in lines(folder)}
    assert seen == set(data.train_positions)
    assert not seen & set(data.val_positions)


def test_a_run_is_repeated_byte_for_byte(runs: Runs) -> None:
    first, second = (runs.fit(name, pruning={}) for name in ("a", "b"))
    same_end(first, second)
    assert (first / "metrics.csv").read_bytes() == (second / "metrics.csv").read_bytes()


def test_short_names_on_the_command_line(runs: Runs) -> None:
    folder = runs.fit(
        "t", "--trainer.callbacks+=CHESPruning", "--trainer.callbacks.rule=LowestCount",
        "--trainer.callbacks.rule.count=12", "--trainer.callbacks.measure=ches", "--trainer.max_epochs=1",
    )  # fmt: skip
    assert checkpoint(folder)["global_step"] == 3


def test_the_command_of_the_shipped_file_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    shipped = ROOT / "configs/callbacks/ches_pruning.yaml"
    run_cli(["fit", "-c", str(ROOT / "configs/quickstart.yaml"), "-c", str(shipped), f"--run.root={tmp_path}"])
    folder = tmp_path / "quickstart/version_0"
    assert {epoch: len(kept) for epoch, (_, kept) in choices(folder).items()} == {0: 108, 3: 81, 6: 61, 9: 46}
    callbacks = yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["callbacks"]
    assert [c["class_path"] for c in callbacks].count("callbacks.CHESPruning") == 1
    assert len(callbacks) > len(yaml.safe_load(shipped.read_text())["trainer"]["callbacks"]), "those of the base stay"
    assert "Epoch 9: 46 of 61 training pairs are kept by ln_ches" in capsys.readouterr().out


# --- refusals -----------------------------------------------------------------------------------------------------


def test_too_few_pairs_are_refused_with_the_spread_of_scores(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    rule = {"class_path": "lit_pref.pruning.LowestCount", "init_args": {"count": 3}}
    with pytest.raises(SystemExit) as caught:
        runs.fit("t", pruning={"rule": rule, "from_epoch": 1})
    assert caught.value.code == 4
    said = capsys.readouterr().err
    assert "pruning before epoch 1 would keep 3 of 32 training pairs, less than one batch of 4" in said
    assert "Quantiles of ln_ches: 0% " in said
    assert "Fix: choose a rule that keeps more" in said
    assert "Traceback" not in said
    assert not (runs.folder("t") / "kept_rows.parquet").exists()


def test_a_rule_that_keeps_all_of_few_pairs_is_no_mistake(runs: Runs) -> None:
    """Once a batch is left, keeping every one of them goes on."""
    rule = {"class_path": "lit_pref.pruning.LowestCount", "init_args": {"count": 4}}
    assert checkpoint(runs.fit("t", pruning={"rule": rule}))["global_step"] == 3


@pytest.mark.parametrize("arguments", [{"every_n_epochs": 0}, {"from_epoch": -1}])
def test_bad_epochs_are_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match="every_n_epochs must be at least 1, and from_epoch at least 0"):
        CHESPruning(LowestFraction(0.5), **arguments)


def test_an_unknown_measure_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="no measure 'chess'"):
        CHESPruning(LowestFraction(0.5), measure="chess")


def test_an_unknown_label_ends_with_two(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    rule = {"class_path": "lit_pref.pruning.Stratified", "init_args": {"rule": THREE_QUARTERS, "label": "kind"}}
    with pytest.raises(SystemExit) as caught:
        runs.fit("t", pruning={"rule": rule})
    assert caught.value.code == 2
    assert "--data.columns.labels='[kind]'" in capsys.readouterr().err


# --- steps and schedules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 3])
def test_matched_steps_are_those_of_all_pairs(accumulate: int, runs: Runs) -> None:
    options = [f"--trainer.accumulate_grad_batches={accumulate}"]
    matched = runs.fit("matched", *options, pruning={"match_steps": True})
    whole = runs.fit("whole", *options)
    assert checkpoint(matched)["global_step"] == checkpoint(whole)["global_step"] == 3 * -(-8 // accumulate)
    assert checkpoint(runs.fit("short", *options, pruning={}))["global_step"] < checkpoint(whole)["global_step"]
    assert [len(kept) for _, kept in choices(matched).values()] == [24, 18, 14]


@pytest.mark.parametrize("length", [5, 13, 26, 31])
def test_repeated_pairs_come_in_whole_passes_each_in_its_own_order(length: int) -> None:
    positions = list(range(100, 113))
    order = repeated_order(positions, length, 3, 1)
    assert len(order) == length
    passes = [order[i : i + 13] for i in range(0, length, 13)]
    for part in passes:
        assert len(set(part)) == len(part)
        assert set(part) <= set(positions)
    assert passes[0] == epoch_order(positions, 3, 1)[:length], "the first pass is the order of an epoch"
    assert len({tuple(part[:5]) for part in passes}) == len(passes)
    counts = [order.count(position) for position in positions]
    assert max(counts) - min(counts) <= 1, "every pair is seen equally often, but for the pass that is cut"


def test_repeated_pairs_are_the_same_on_any_number_of_processes() -> None:
    def batches(world_size: int) -> list[list[int]]:
        ranks = [PairBatches(range(13), 12 // world_size, 7, rank, world_size, length=31) for rank in range(world_size)]
        for order in ranks:
            order.set_epoch(2)
        assert all(order.pair_counts == [12, 12, 7] for order in ranks)
        return [sorted(p for share in shares for p in share.positions[: share.counted])
                for shares in zip(*ranks, strict=True)]  # fmt: skip

    assert batches(1) == batches(2) == batches(3)
    assert [len(batch) for batch in batches(1)] == [12, 12, 7]


LINEAR = ["--model.scheduler=torch.optim.lr_scheduler.LinearLR", "--model.scheduler.start_factor=1.0",
          "--model.scheduler.end_factor=0.1"]  # fmt: skip
COSINE = ["--model.scheduler=torch.optim.lr_scheduler.CosineAnnealingLR", "--model.scheduler.eta_min=1e-4"]


@pytest.mark.parametrize(
    ("schedule", "steps", "lowest"), [(LINEAR, "total_iters", 1e-3), (COSINE, "T_max", 1e-4)], ids=["linear", "cosine"]
)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_schedule_of_all_pairs_ends_at_its_end_where_epochs_shrink(
    schedule: list[str], steps: str, lowest: float, accumulate: int, runs: Runs
) -> None:
    planned = 3 * -(-8 // accumulate)
    options = [*schedule, f"--model.scheduler.{steps}={planned}", f"--trainer.accumulate_grad_batches={accumulate}"]
    end = checkpoint(runs.fit("t", *options, pruning={}))
    assert end["global_step"] < planned
    assert end["lr_schedulers"][0]["last_epoch"] == planned
    assert end["lr_schedulers"][0]["_last_lr"][0] == pytest.approx(lowest)


@pytest.mark.parametrize("options", [[], ["--trainer.accumulate_grad_batches=3"], ["--trainer.max_steps=11"],
                                     ["--trainer.limit_train_batches=5"], ["--trainer.limit_train_batches=0.6"]],
                         ids=str)  # fmt: skip
def test_a_schedule_without_pruning_advances_one_step_each(options: list[str], runs: Runs) -> None:
    """The rates are those that the same scheduler gives to a bare loop."""
    every = {"class_path": CHECKPOINTS, "init_args": {"every_n_train_steps": 1, "save_top_k": -1}}
    folder = runs.fit("t", *COSINE, "--model.scheduler.T_max=24", *options, callbacks=[every])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 24, 1e-4)
    expected = {0: 1e-2}
    for step in range(1, 25):
        optimizer.step()
        schedule.step()
        expected[step] = optimizer.param_groups[0]["lr"]
    found = [torch.load(path, weights_only=True) for path in (folder / "checkpoints").glob("epoch*.ckpt")]
    assert len(found) == checkpoint(folder)["global_step"]
    # A checkpoint is written before or after its step of the schedule, never further away.
    for state in (*found, checkpoint(folder)):
        schedule_state = state["lr_schedulers"][0]
        assert schedule_state["last_epoch"] == state["global_step"]
        assert schedule_state["_last_lr"][0] == pytest.approx(expected[state["global_step"]], abs=1e-12)


def trainer_at(epoch: int, batches: int, whole: int, **more: Any) -> Any:
    values = {"current_epoch": epoch, "num_training_batches": batches, "accumulate_grad_batches": 1, "max_epochs": 3,
              "max_steps": -1, "global_step": 0, "limit_train_batches": 1.0}  # fmt: skip
    return SimpleNamespace(**{**values, **more}, datamodule=SimpleNamespace(batches_of_all=whole))


def test_the_share_that_is_done_counts_epochs_alike() -> None:
    shares = [share_done(trainer_at(epoch, n, 8), batch) for epoch, n in enumerate((8, 4, 2)) for batch in range(n)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[8] == pytest.approx(1 / 3)
    assert shares[12] == pytest.approx(2 / 3)
    assert share_done(trainer_at(2, 2, 8), 2) == 1
    assert share_done(trainer_at(0, 8, 8, max_steps=4, global_step=3), 3) == 0.75


def test_a_schedule_never_goes_back_and_ends_where_it_was_planned_to() -> None:
    found = [scheduled_steps(trainer_at(epoch, n, 8), batch + 1)
             for epoch, n in enumerate((8, 5, 3)) for batch in range(n)]  # fmt: skip
    numbers = [step for step in found if step is not None]
    assert numbers == sorted(numbers)
    assert numbers[:8] == list(range(1, 9))
    assert numbers[-1] == 24
    assert scheduled_steps(trainer_at(0, 8, 8, max_epochs=-1, max_steps=5), 1) is None


# --- restarts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pruning", [{}, {"cumulative": False, "match_steps": True}], ids=["cumulative", "matched"])
@pytest.mark.parametrize("where", ["end of an epoch", "within an epoch", "last batch of an epoch", "within the first"])
def test_a_restart_reaches_the_end_of_an_uninterrupted_run(where: str, pruning: Any, runs: Runs) -> None:
    """Bit for bit. A stock checkpoint of an epoch's last batch is written before the epoch is closed."""
    schedule = [*LINEAR, "--model.scheduler.total_iters=24"]
    straight = runs.fit("straight", *schedule, pruning=pruning)
    step = {"end of an epoch": 0, "within an epoch": 10, "within the first": 2,
            "last batch of an epoch": 8 if pruning else 6}[where]  # fmt: skip
    if step:
        every = {"class_path": CHECKPOINTS, "init_args": {"every_n_train_steps": step, "save_top_k": -1}}
        name = f"epoch={step // 8 if pruning and step != 8 else int(step > 6 and step != 8)}-step={step}.ckpt"
    else:
        every = {"class_path": CHECKPOINTS, "init_args": {"every_n_epochs": 1, "save_top_k": -1, "filename": "{epoch}"}}
        name = "epoch=0.ckpt"
    first = runs.fit("first", *schedule, callbacks=[every], pruning=pruning)
    same_end(straight, first)
    assert len(lines(first)) > len(choices(first)[0][0]), "what is written after the checkpoint must be forgotten"
    from_there = f"--ckpt_path={first / 'checkpoints' / name}"
    same_end(straight, runs.fit("resumed", *schedule, from_there, pruning=pruning))


def test_pruning_that_is_added_at_a_restart_waits_for_the_next_epoch(runs: Runs) -> None:
    """The first epoch has eight steps, of which three are over; then come 24 and 18 pairs."""
    every = {"class_path": CHECKPOINTS, "init_args": {"every_n_train_steps": 3, "save_top_k": -1}}
    first = runs.fit("first", "--trainer.max_epochs=1", callbacks=[every])
    folder = runs.fit("resumed", f"--ckpt_path={first / 'checkpoints' / 'epoch=0-step=3.ckpt'}", pruning={})
    assert {epoch: len(kept) for epoch, (_, kept) in choices(folder).items()} == {1: 24, 2: 18}
    assert checkpoint(folder)["global_step"] == 8 + 6 + 5


USER_FILE = '''
"""A callback that stops the world at a chosen place, so that the process can be killed there."""
import os
import time
from pathlib import Path

import lightning.pytorch as pl


def stall():
    Path("here").touch()
    time.sleep(600)


class Stall(pl.Callback):
    def on_fit_start(self, trainer, pl_module):
        self.calls = 0

        def before_forward(module, inputs):
            if os.environ.get("STALL") == "scoring" and not module.training and trainer.training:
                self.calls += trainer.global_step > 0
                if self.calls == 3:
                    stall()

        pl_module.policy.register_forward_pre_hook(before_forward)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if os.environ.get("STALL") == "training" and trainer.global_step == 9:
            stall()
'''


@pytest.mark.parametrize("where", ["scoring", "training"])
def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint(
    where: str, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL while pairs are scored for epoch 1, or in the middle of that epoch; the last checkpoint is older."""
    (runs.root / "stalling.py").write_text(USER_FILE)
    monkeypatch.syspath_prepend(str(runs.root))
    settings: dict[str, Any] = {
        "callbacks": [{"class_path": "stalling.Stall"}], "pruning": {"tokens_per_batch": 64},
    }  # fmt: skip
    if where == "training":
        every = {"every_n_train_steps": 4, "save_last": True, "save_top_k": 0, "filename": "unused"}
        settings["callbacks"].append({"class_path": CHECKPOINTS, "init_args": {**every, "dirpath": str(runs.root)}})
    process = runs.start(runs.arguments("killed", **settings), STALL=where)
    wait_for(runs.root / "here", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    epochs = {line["epoch"] for line in lines(runs.folder("killed"))}
    assert epochs == ({0} if where == "scoring" else {0, 1})
    saved = runs.root / "last.ckpt" if where == "training" else runs.folder("killed") / "checkpoints" / "last.ckpt"
    assert torch.load(saved, weights_only=True)["global_step"] == (8 if where == "training" else 6)
    resumed = runs.fit("resumed", f"--ckpt_path={saved}", **settings)
    (runs.root / "last.ckpt").unlink(missing_ok=True)
    same_end(runs.fit("straight", **settings), resumed)
    assert checkpoint(resumed)["global_step"] == 15


def wait_for(marker: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not marker.exists():
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- processes ----------------------------------------------------------------------------------------------------


def test_two_processes_keep_the_rows_of_one(runs: Runs) -> None:
    started: list[tuple[str, Callable[[], tuple[str, str]], subprocess.Popen[str]]] = []
    for devices, batch_size in ((1, 4), (2, 2)):
        name = f"on_{devices}"
        options = [f"--trainer.devices={devices}", f"--data.batch_size={batch_size}",
                   f"--trainer.strategy={'ddp' if devices > 1 else 'auto'}"]  # fmt: skip
        process = runs.start(runs.arguments(name, *options, pruning={"tokens_per_batch": 64}))
        started.append((name, process.communicate, process))
    for _, finish, process in started:
        said = finish()[0]
        assert process.returncode == 0, said[-3000:]
    one, two = (runs.folder(name) for name, _, _ in started)
    assert choices(one) == choices(two)
    assert [len(kept) for _, kept in choices(two).values()] == [24, 18, 14]
    for a, b in zip(lines(one), lines(two), strict=True):
        assert b["score"] == pytest.approx(a["score"], rel=1e-3, abs=1e-5)
    first, second = (checkpoint(folder) for folder in (one, two))
    assert first["global_step"] == second["global_step"] == 15
    start = AutoModelForCausalLM.from_pretrained(runs.model, dtype=torch.float32).state_dict()
    for key, value in first["state_dict"].items():
        torch.testing.assert_close(second["state_dict"][key], value, atol=2e-4, rtol=1e-3)
    moved = max(float((value - start[key.removeprefix("policy.")]).abs().max())
                for key, value in first["state_dict"].items())  # fmt: skip
    assert moved > 1e-2, "weights must move, or equality means nothing"
