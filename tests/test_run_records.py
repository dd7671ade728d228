"""What a run leaves behind for reports: manifest, trajectories, where mass went, moved rows, TensorBoard's tables."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from scipy.stats import spearmanr
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from callbacks import MassShift
from callbacks.hparams import settings_of
from callbacks.mass_record import group_sentence, listed, ranks_of, section
from callbacks.mass_shift import _tags
from callbacks.mass_sums import mass_means, mass_sums
from callbacks.moved_rows import moved_most
from callbacks.run_manifest import measured
from lit_pref import scoring
from lit_pref.batch import collate
from lit_pref.cli import run as run_cli
from lit_pref.errors import ConfigError
from lit_pref.fast_path import fast_path, pad_always
from lit_pref.manifest import files_of, read_manifest, rows_digest, run_folder_of
from lit_pref.models import CausalLM
from lit_pref.paths import file_sha256
from lit_pref.references import AdaptersOff, CachedModel, FrozenModel, MovingModel, NoReference
from lit_pref.runs import VARIABLE
from lit_pref.scoring import chosen_predictions
from lit_pref.token_geometry import contrasts, predicted_gains
from lit_pref.token_groups import PARTS, grouped_tokens, mass_parts, read_groups

ROOT = Path(__file__).resolve().parents[1]


def start(root: Path, model: Path, pairs: Path, name: str, *options: str) -> Path:
    """Train 32 pairs in batches of 4, validate 8, and return the run's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        run_cli([
            "fit", "-c", str(ROOT / "configs/base.yaml"), "-c", str(ROOT / "configs/objectives/dpo.yaml"),
            f"--model.policy.path={model}", f"--data.path={pairs}", "--data.batch_size=4", "--data.val_size=8",
            "--trainer.accelerator=cpu", "--trainer.val_check_interval=4", "--model.optimizer.lr=1e-3",
            f"--run.root={root}", f"--run.name={name}", *options,
        ])  # fmt: skip
    return sorted((root / name).glob("version_*"))[-1]


@pytest.fixture(scope="module")
def named_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rows with names, whose answers begin with the words of two groups."""
    path = tmp_path_factory.mktemp("named") / "pairs.jsonl"
    rows = [{"id": f"n{i}", "prompt": f"Number {i}?", "chosen": f" yes, {i}", "rejected": " no" * (1 + i % 3)}
            for i in range(40)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups for MassShift."""
    path = tmp_path_factory.mktemp("overlay") / "groups.yaml"
    shift = {"class_path": "callbacks.MassShift", "init_args": {"groups": {"yes": [" yes"], "no": [" no"]}}}
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": [shift]}}))
    return path


@pytest.fixture(scope="module")
def done(model_folder: Path, named_pairs: Path, overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 8 steps, validated at 0, 4 and 8."""
    return start(tmp_path_factory.mktemp("runs"), model_folder, named_pairs, "done", "-c", str(overlay))


def curve(folder: Path, tag: str) -> dict[int, float]:
    table = pl.read_csv(folder / "metrics.csv", infer_schema_length=None)
    return {row["step"]: row[tag] for row in table.iter_rows(named=True) if row[tag] is not None}


# --- run.json -----------------------------------------------------------------------------------------------------


def test_a_manifest_says_what_ran_and_how_it_ended(done: Path, model_folder: Path, named_pairs: Path) -> None:
    record = read_manifest(done)
    assert record is not None
    config = yaml.safe_load((done / "config.yaml").read_text())
    assert record["objective"] == config["model"]["objective"]
    assert record["policy"] == CausalLM(str(model_folder)).fingerprint()
    assert (record["command"], record["seed"], record["reference"]) == ("fit", 0, "FrozenModel")
    assert record["zero"] == record["policy"]
    assert record["files"] == {"data.path": file_sha256(named_pairs)}
    assert record["pairs"] == {"train": 32, "val": 8}
    rows = pl.read_parquet(done / "trajectories.parquet")["row"].unique().to_list()
    assert record["rows"] == {"train": rows_digest(set(range(40)) - set(rows)), "val": rows_digest(rows)}
    assert record["data"]["train"] == record["data"]["val"], "split off the same source"
    assert (record["finished"], record["stopped_by"], record["steps"]) == (True, "max_epochs", 8)
    assert record["continues"] is None
    assert record["seconds"] > 0
    assert record["packages"]["torch"] == torch.__version__


def test_a_manifest_names_the_rows_that_validation_saw_and_the_zero_it_measured_from(
    model_folder: Path, named_pairs: Path, tmp_path: Path
) -> None:
    other = {"class_path": "lit_pref.references.FrozenModel", "init_args": {
        "model": {"class_path": "lit_pref.models.CausalLM", "init_args": {
            "path": str(model_folder), "weights": "random", "seed": 3}}}}  # fmt: skip
    overlay = tmp_path / "reference.yaml"
    overlay.write_text(yaml.safe_dump({"model": {"reference": other}}))
    options = ("-c", str(overlay), "--trainer.max_steps=1", "--trainer.val_check_interval=1")
    folder = start(tmp_path, model_folder, named_pairs, "few", *options, "--trainer.limit_val_batches=1")
    record = read_manifest(folder)
    assert record is not None
    rows = pl.read_parquet(folder / "trajectories.parquet")["row"].unique().to_list()
    assert (len(rows), record["pairs"]["val"], record["rows"]["val"]) == (4, 4, rows_digest(rows))
    assert record["zero"] == CausalLM(str(model_folder), weights="random", seed=3).fingerprint() != record["policy"]


@pytest.mark.parametrize(("limit", "count"), [(1.0, 10), (0.5, 4), (2, 8), (9, 10), (0, 0)])
def test_rows_of_limited_validations(limit: float, count: int) -> None:
    trainer = SimpleNamespace(world_size=2, limit_val_batches=limit)
    data = SimpleNamespace(val_batch_size=2, val_positions=list(range(5, 15)))
    assert measured(trainer, data) == list(range(5, 5 + count))  # type: ignore[arg-type]


def test_the_zero_is_the_policy_unless_the_reference_is_another_model() -> None:
    policy, other = CausalLM("p"), CausalLM("q")
    for reference in (AdaptersOff(), CachedModel(), FrozenModel(), MovingModel()):
        assert reference.origin(policy) is policy
    for reference in (CachedModel(other), FrozenModel(other), MovingModel(model=other)):
        assert reference.origin(policy) is other
    assert NoReference().origin(policy) is None


def test_files_of_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "kept.json").write_text("a")
    digest = file_sha256(tmp_path / "kept.json")
    own = {"prompts": "~/kept.json", "cache": "~/kept.json", "limit": 3}
    config = {
        "data": {"kept_rows": str(tmp_path / "kept.json"), "path": str(tmp_path), "columns": None},
        "trainer": {"callbacks": [{"class_path": "x"}, {"init_args": own}]},
        "odd": ["~nobody-here/x", "long" * 2000, "nul\0", ""],
        "ckpt_path": str(tmp_path / "kept.json"), "run": {"root": str(tmp_path / "kept.json")},
    }  # fmt: skip
    assert files_of(config) == {"data.kept_rows": digest, "trainer.callbacks.1.init_args.prompts": digest}


def test_a_digest_of_rows_does_not_depend_on_their_order() -> None:
    assert rows_digest([3, 1, 20]) == rows_digest(np.array([20, 3, 1])) != rows_digest([3, 120])


def test_a_manifest_is_read_without_torch(done: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lit_pref.manifest import read_manifest; "
        f"assert read_manifest(Path({str(done)!r}))['finished']; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_folder_without_a_manifest_has_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    (tmp_path / "run.json").write_text('{"format": 1, "fin')
    assert read_manifest(tmp_path) is None
    (tmp_path / "run.json").write_text('{"format": 99}')
    assert read_manifest(tmp_path) is None


STOPPER = """
import lightning.pytorch as pl


class Stopper(pl.Callback):
    def on_validation_end(self, trainer, pl_module):
        if trainer.global_step:
            self._stop(trainer)

    def _stop(self, trainer):
        trainer.should_stop = True


class Breaker(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 2:
            raise ArithmeticError("no luck")
"""


def test_a_manifest_says_who_stopped_a_run(
    model_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stoppers.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = (tmp_path, model_folder, pairs_file)
    record = read_manifest(start(*arguments, "steps", "--trainer.max_steps=2"))
    assert record is not None
    assert (record["finished"], record["stopped_by"], record["steps"]) == (True, "max_steps", 2)
    record = read_manifest(start(*arguments, "callback", "--trainer.callbacks+=stoppers.Stopper"))
    assert record is not None
    assert (record["finished"], record["stopped_by"], record["steps"]) == (True, "Stopper", 4)
    with pytest.raises(ArithmeticError):
        start(*arguments, "broken", "--trainer.callbacks+=stoppers.Breaker")
    record = read_manifest(tmp_path / "broken" / "version_0")
    assert record is not None
    assert (record["finished"], record["stopped_by"], record["steps"]) == (False, "ArithmeticError", 3)


# --- trajectories.parquet -----------------------------------------------------------------------------------------


def test_trajectories_hold_every_pair_at_every_validation(done: Path) -> None:
    table = pl.read_parquet(done / "trajectories.parquet")
    assert table.columns == [
        "step", "row", "id", "chosen_logps", "rejected_logps", "chosen_displacement", "rejected_displacement",
        "chosen_tokens", "rejected_tokens", "ches", "ln_ches",
    ]  # fmt: skip
    whole = {"step", "row", "chosen_tokens", "rejected_tokens"}
    assert all(table[n].dtype == (pl.Int64 if n in whole else pl.Float64) for n in table.columns if n != "id")
    assert table["step"].unique().to_list() == [0, 4, 8]
    assert table.equals(table.sort("step", "row"))
    assert table["id"].to_list() == [f"n{row}" for row in table["row"]]
    assert (table.filter(pl.col("step") == 0)["chosen_displacement"] == 0).all()
    for step, group in table.group_by("step"):
        for name in ("chosen", "rejected"):
            assert group[f"{name}_logps"].mean() == pytest.approx(curve(done, f"logps/{name}/val")[step[0]], abs=1e-5)  # type: ignore[index]
        means = {"chosen": "displacement/chosen/val", "rejected": "displacement/rejected/val"}
        for name, tag in means.items():
            assert group[f"{name}_displacement"].mean() == pytest.approx(curve(done, tag)[step[0]], abs=1e-6)  # type: ignore[index]
        assert group["ln_ches"].mean() == pytest.approx(curve(done, "ches/online_ln/val")[step[0]], rel=1e-4)  # type: ignore[index]


def test_a_restart_takes_records_along(model_folder: Path, named_pairs: Path, overlay: Path, tmp_path: Path) -> None:
    """Through a run folder that moved: lines are as of one run, and the start is that of the first one."""
    arguments = (tmp_path, model_folder, named_pairs)
    whole = start(*arguments, "whole", "-c", str(overlay), "--trainer.max_epochs=2")
    first = start(*arguments, "first", "-c", str(overlay))
    (tmp_path / "first").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / first.name
    last = moved / "checkpoints" / "last.ckpt"
    again = start(*arguments, "again", "-c", str(overlay), "--trainer.max_epochs=2", f"--ckpt_path={last}")
    for name in ("trajectories.parquet", "mass.json", "moved_rows.jsonl"):
        assert (again / name).read_bytes() == (whole / name).read_bytes(), name
    record = read_manifest(again)
    assert record is not None
    assert record["continues"] == str(moved.resolve())
    finished = start(*arguments, "third", "-c", str(overlay), f"--ckpt_path={last}")  # nothing is left to train
    assert (finished / "trajectories.parquet").read_bytes() == (moved / "trajectories.parquet").read_bytes()


def test_a_checkpoint_knows_its_run_by_the_files_around_it(tmp_path: Path) -> None:
    (tmp_path / "deep" / "run" / "checkpoints" / "last.ckpt").mkdir(parents=True)
    last = tmp_path / "deep" / "run" / "checkpoints" / "last.ckpt"
    assert run_folder_of(last) == (tmp_path / "deep" / "run").resolve()
    assert run_folder_of(tmp_path / "x.ckpt") == tmp_path.resolve()
    (tmp_path / "deep" / "config.yaml").touch()
    assert run_folder_of(last) == (tmp_path / "deep").resolve()


# --- mass.json ----------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1000, 3])
def test_sums_of_mass_by_brute_force(
    small_model: Any, random_pairs: Any, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(scoring, "TOKENS_PER_CHUNK", chunk)
    model, pairs = small_model("gemma2"), random_pairs(5)
    rows = []  # (n, V) log-probabilities at each position of the chosen responses that count, one pair at a time
    for pair in pairs[:4]:
        ids = torch.tensor([[*pair.prompt, *pair.chosen]])
        rows.append(model(ids).logits[0, len(pair.prompt) - 1 : -1].double().log_softmax(-1))
    parts = [mass_sums(model, collate(pairs[a:b], n), {}, torch.float64) for a, b, n in ((0, 2, 2), (2, 5, 2))]
    found = mass_means(parts[0] + parts[1])
    first, every = torch.stack([r[0] for r in rows]), torch.cat(rows)
    assert (found.prompts, found.positions) == (4, len(every))
    for values, expected in (
        (found.first, first.exp().mean(0)),
        (found.first_logps, first.mean(0)),
        (found.overall, every.exp().mean(0)),
        (found.overall_logps, every.mean(0)),
    ):
        torch.testing.assert_close(values.double(), expected, atol=1e-6, rtol=1e-4)
    own = torch.tensor([r[0].exp()[pair.chosen[0]] for r, pair in zip(rows, pairs, strict=False)])
    assert float(found.parts[0]) == pytest.approx(float(own.mean()), abs=1e-6)
    assert float(found.parts.sum()) == pytest.approx(1, abs=1e-5)


def test_gains_are_inner_products_with_the_mean_difference(random_pairs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_pref.token_geometry.ROWS_PER_CHUNK", 7)
    pairs, weight = random_pairs(5), torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    table = contrasts(collate(pairs, 4), 300) / 4
    for row, embed in ((0, lambda ids: weight[ids[0]]), (1, lambda ids: weight[list(ids)].mean(0))):
        direction = torch.stack([embed(p.chosen) - embed(p.rejected) for p in pairs[:4]]).mean(0)
        torch.testing.assert_close(predicted_gains(weight, table[row]), weight @ direction, atol=1e-4, rtol=1e-4)


def test_the_ranking_is_that_of_theorem_5_where_it_holds() -> None:
    """Free features and a fixed output embedding: one small step moves log-probabilities as was told."""
    generator = torch.Generator().manual_seed(1)
    weight, state = torch.randn(11, 6, generator=generator).double(), torch.randn(6, generator=generator).double()
    chosen, rejected = 3, 7
    state.requires_grad_()
    before = (weight @ state).log_softmax(-1)
    (before[chosen] - before[rejected]).backward()
    assert state.grad is not None
    before, after = before.detach(), (weight @ (state + 1e-4 * state.grad).detach()).log_softmax(-1)
    contrast = torch.zeros(11)
    contrast[chosen], contrast[rejected] = 1, -1
    told = predicted_gains(weight, contrast)
    found = section((before.exp(), after.exp()), (before, after), told, 1, 3, str)
    assert found["spearman"] == pytest.approx(1)


def test_a_section_lists_gainers_losers_and_those_that_were_told() -> None:
    before = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0])
    after = torch.tensor([0.1, 0.3, 0.25, 0.12, 0.2])
    logps = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    told = torch.tensor([0.1, 0.9, -1.0, 0.9, 0.0])
    found = section((before, after), (logps[0], logps[1]), told, 7, 2, "t{}".format)
    assert [t["token"] for t in found["tokens"]] == [4, 2, 0, 1, 3]
    assert found["tokens"][3] == {"token": 1, "text": "t1", "before": pytest.approx(0.3), "after": pytest.approx(0.3),
                                  "predicted": pytest.approx(0.9), "predicted_rank": 1}  # fmt: skip
    assert found["spearman"] == pytest.approx(spearmanr(told, logps[1] - logps[0]).statistic)
    assert ranks_of(told.numpy()).tolist() == [3, 1, 5, 2, 4]
    untold = section((before, after), (logps[0], logps[1]), None, 7, 2, str)
    assert [t["predicted_rank"] for t in untold["tokens"]] == [None] * 3
    assert listed(np.zeros(3), None, 2) == [], "nothing moved"
    diverged = section((before, after * float("nan")), (logps[0], logps[1]), told, 7, 2, str)
    assert (diverged["spearman"], diverged["tokens"]) == (None, [])


def test_parts_of_mass_by_hand() -> None:
    probs = torch.tensor([[0.1, 0.2, 0.3, 0.25, 0.15], [0.1, 0.2, 0.3, 0.25, 0.15], [0.1, 0.2, 0.3, 0.25, 0.15]])
    groups = {0: 0, 1: 0, 2: 1, 3: 1}  # 4 is of none
    # Of one group; of two groups; the chosen of none.
    found = mass_parts(probs, torch.tensor([0, 0, 4]), torch.tensor([1, 2, 0]), groups)
    expected = [[0.1, 0.2, 0.0, 0.55, 0.15], [0.1, 0.3, 0.2, 0.25, 0.15], [0.15, 0.1, 0.0, 0.0, 0.75]]
    torch.testing.assert_close(found, torch.tensor(expected))
    same = mass_parts(probs[:1], torch.tensor([1]), torch.tensor([1]), groups)
    torch.testing.assert_close(same, torch.tensor([[0.2, 0.0, 0.1, 0.55, 0.15]]))
    torch.testing.assert_close(mass_parts(probs, *torch.tensor([[0, 0, 4], [1, 2, 0]]), {}).sum(-1), torch.ones(3))


def test_a_token_is_of_a_group_where_a_word_begins_with_it(tokenizer: Any) -> None:
    def first(text: str) -> int:
        return int(tokenizer.encode(text, add_special_tokens=False)[0])

    groups = {"yes": ["yes", "sure"], "no": ["no", "say"], "blank": ["   "]}
    found = grouped_tokens(groups, tokenizer)
    assert found[first("yes")] == found[first(" yes")] == 0
    assert found[first("no")] == 1
    shared = grouped_tokens({"a": ["yes"], "b": ["yes", "no"]}, tokenizer)
    assert first("yes") not in shared, "it begins words of two groups"
    assert set(shared) == {first("no"), first(" no")}
    assert 2 not in found.values(), "a blank begins nothing"


def test_groups_are_read_or_refused() -> None:
    assert read_groups(None) is None
    world = read_groups("world:agreement@3")
    assert world is not None
    assert set(world) == {"agree", "disagree"}
    for groups in ("agreement", "world:nowhere", {"a": ["x"]}, {"a": ["x"], "b": []}, {"a": ["x"], "b": [" "]}):
        with pytest.raises(ConfigError):
            read_groups(groups)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        MassShift(groups={"a": ["x"]})


def test_mass_of_a_run_is_that_of_its_curves(done: Path) -> None:
    record = json.loads((done / "mass.json").read_text())
    assert (record["format"], record["step"]) == (1, 8)
    assert record["groups"] == {"yes": [" yes"], "no": [" no"]}
    assert tuple(record["mass"]) == PARTS
    for name, (before, after) in record["mass"].items():
        points = curve(done, f"mass/{name}/val")
        assert (points[0], points[8]) == (pytest.approx(before), pytest.approx(after))
    for end in (0, 1):
        assert sum(masses[end] for masses in record["mass"].values()) == pytest.approx(1, abs=1e-5)
    for name in ("first", "overall"):
        assert -1 <= record[name]["spearman"] <= 1
        assert all(0 <= token["before"] <= 1 for token in record[name]["tokens"])
    assert record["first"]["positions"] == 8
    tokens = pl.read_parquet(done / "trajectories.parquet").filter(pl.col("step") == 0)["chosen_tokens"]
    assert record["overall"]["positions"] == tokens.sum()


def test_without_groups_nothing_is_benign(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    folder = start(tmp_path, model_folder, pairs_file, "plain", "--trainer.max_steps=1")
    record = json.loads((folder / "mass.json").read_text())
    assert (record["groups"], record["mass"]) == (None, None)
    tags = set((folder / "metrics.csv").read_text().splitlines()[0].split(","))
    assert {"mass/chosen/val", "mass/rejected/val"} <= tags
    assert not tags & {"mass/benign/val", "mass/catastrophic/val", "mass/other/val"}


def test_sentences_about_groups() -> None:
    left = group_sentence([0.8, 0.15, 0.01, 0.01, 0.03], [0.5, 0.01, 0.02, 0.43, 0.04])
    assert left == (
        "Of the mass that left the chosen token (-0.30) and the rejected one (-0.14), 0.01 went to other words of the "
        "chosen one's group (benign), 0.42 to words of other groups (catastrophic), 0.01 elsewhere."
    )
    assert "left the chosen token (-0.30), 0.30 went" in group_sentence([0.8, 0, 0.1, 0, 0.1], [0.5, 0, 0.4, 0, 0.1])
    assert group_sentence([0.5, 0.3, 0.1, 0.1, 0], [0.8, 0.1, 0.05, 0.05, 0]).startswith(
        "Mass changed by +0.30 on the chosen token, -0.20 on the rejected one, -0.05 on other words"
    )
    assert "No chosen response begins with a word of a group" in group_sentence([0.5, 0.5, 0, 0, 0], [1, 0, 0, 0, 0])


def test_a_token_does_not_take_the_tag_of_a_part() -> None:
    assert _tags({4: "other", 5: "others"}) == {4: "mass/token_4/val", 5: "mass/others/val"}


# --- moved_rows.jsonl ---------------------------------------------------------------------------------------------


def test_moved_rows_are_those_that_fell_most_then_those_that_rose(done: Path) -> None:
    lines = [json.loads(line) for line in (done / "moved_rows.jsonl").read_text().splitlines()]
    table = pl.read_parquet(done / "trajectories.parquet").filter(pl.col("step") == 8)
    order = table.sort("chosen_displacement")["row"].to_list()
    assert [line["row"] for line in lines] == order[:5] + order[:-4:-1], "of 8 pairs, none twice"
    assert lines[0]["id"] == f"n{order[0]}"
    assert lines[0]["prompt"].endswith(f"Number {order[0]}?")
    assert lines[0]["chosen"].startswith(f" yes, {order[0]}")
    known = {row["row"]: row for row in table.iter_rows(named=True)}
    for line in lines:
        for side in ("chosen_displacement", "rejected_displacement"):
            assert line[side] == known[line["row"]][side]


def test_moved_most_by_hand() -> None:
    assert moved_most(torch.tensor([0.5, -2.0, 1.0, -1.0, 0.0]), 2) == ([1, 3], [2, 0])
    assert moved_most(torch.tensor([0.5, -2.0]), 3) == ([1, 0], [])


# --- TensorBoard --------------------------------------------------------------------------------------------------


def test_tensorboard_has_distributions_and_the_row_of_a_run_beside_its_curves(done: Path) -> None:
    assert len(list(done.rglob("events.out.tfevents.*"))) == 1, "no folder of events beside the curves"
    events = EventAccumulator(str(done), size_guidance={"histograms": 0}).Reload()
    table = pl.read_parquet(done / "trajectories.parquet")
    for tag, column in (("displacement_chosen", "chosen_displacement"), ("ln_ches", "ln_ches")):
        found = {event.step: event.histogram_value for event in events.Histograms(f"distribution/{tag}/val")}
        assert list(found) == [0, 4, 8]
        values = table.filter(pl.col("step") == 8)[column]
        assert (found[8].num, found[8].min, found[8].max) == (8, values.min(), values.max())
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["objective"].string_value == "DPO"
    assert settings["objective.beta"].number_value == 0.1
    assert settings["training.learning_rate"].number_value == 1e-3
    assert (settings["seed"].number_value, settings["training.batch_size"].number_value) == (0, 4)
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    names = {metric.name.tag for metric in metrics}
    assert names == {f"displacement/{n}/val" for n in ("chosen", "rejected", "margin", "share_displaced", "accuracies")}
    assert names <= set(events.Tags()["scalars"]), "the table shows the last values of these curves"


def test_settings_of_composed_objectives_are_flat() -> None:
    dpo = {"class_path": "objectives.DPO", "init_args": {"beta": 0.1}}
    both = {"class_path": "objectives.WeightedSum", "init_args": {"objectives": [dpo], "weights": [1.0, 0.5]}}
    found = settings_of({"model": {"objective": both, "optimizer": {"class_path": "torch.optim.SGD"}}})
    assert found["objective"] == "WeightedSum"
    assert found["objective.objectives.0"] == "DPO"
    assert found["objective.objectives.0.beta"] == 0.1
    assert found["objective.weights"] == "[1.0, 0.5]"
    assert (found["training.optimizer"], found["training.learning_rate"]) == ("SGD", None)


def test_the_length_of_sampled_responses_is_logged(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    (tmp_path / "ask.txt").write_text("One?\nTwo?\nThree?\n")
    (tmp_path / "control.txt").write_text("Four?\nFive?\n")
    sampling = {"max_new_tokens": 5}
    judge = {"class_path": "lit_pref.judges.KeywordJudge"}
    files = {"prompts": str(tmp_path / "ask.txt"), "control_prompts": str(tmp_path / "control.txt")}
    arguments = {**files, "judges": [judge], "sampling": sampling, "canaries": False}
    overlay = tmp_path / "refusals.yaml"
    rates = {"class_path": "callbacks.RefusalRate", "init_args": arguments}
    overlay.write_text(yaml.safe_dump({"trainer": {"callbacks": [rates]}}))
    folder = start(tmp_path, model_folder, pairs_file, "asked", "-c", str(overlay), "--trainer.max_steps=1")
    plans = {line["plan"]: line for line in map(json.loads, (folder / "evaluations.jsonl").open())}
    lengths: dict[tuple[str, int], list[int]] = {}
    for line in map(json.loads, (folder / "responses.jsonl").open()):
        told = plans[line["plan"]]
        lengths.setdefault((told["set"], told["step"]), []).append(len(line["tokens"]))
    assert len(lengths) == 4
    for (kind, step), counts in lengths.items():
        tag = "generation/tokens/val" if kind == "prompts" else "generation/over_tokens/val"
        assert curve(folder, tag)[step] == pytest.approx(np.mean(counts))
    content = EventAccumulator(str(folder)).Reload().SummaryMetadata("_hparams_/experiment").plugin_data.content
    names = {m.name.tag for m in plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos}
    assert sum(name.startswith("refusal/rate_") for name in names) == 1
    assert sum(name.startswith("refusal/over_rate_") for name in names) == 1


# --- the same seed, the same files --------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(
    done: Path, model_folder: Path, named_pairs: Path, overlay: Path, tmp_path: Path
) -> None:
    again = start(tmp_path, model_folder, named_pairs, "again", "-c", str(overlay))
    for name in ("trajectories.parquet", "mass.json", "moved_rows.jsonl"):
        assert (again / name).read_bytes() == (done / name).read_bytes(), name


@torch.no_grad()
@pytest.mark.parametrize("packs", [True, False])
def test_only_chosen_responses_are_read_again(packs: bool, small_model: Any, random_pairs: Any) -> None:
    """And say the same, packed or padded."""
    model, pairs = small_model("llama"), random_pairs(6)
    if not packs:
        pad_always(model)
    batch, seen = collate(pairs), []
    fast_path(model, torch.device("cpu"))
    hook = model.register_forward_pre_hook(lambda _m, _a, kw: seen.append(kw["input_ids"].shape), with_kwargs=True)
    found = chosen_predictions(model, batch)
    hook.remove()
    tokens = sum(len(pair.prompt) + len(pair.chosen) for pair in pairs)
    assert seen == [(1, tokens) if packs else (6, batch.input_ids.shape[1])]
    logps = torch.cat([model(torch.tensor([[*p.prompt, *p.chosen]])).logits[0, len(p.prompt) - 1 : -1] for p in pairs])
    torch.testing.assert_close(found.probs, logps.softmax(-1).double().sum(0), rtol=0, atol=1e-5)
    assert found.positions == len(logps)
