"""The ledger: its lines are what scoring gives, its evidence is theirs, and restarts and processes change neither."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from scipy.stats import spearmanr

from callbacks import CHESPruning, DisplacementGuard, LastCheckpoint, Ledger, ValidateEnds
from callbacks import ledger as ledger_module
from lit_pref.adapters import LoRA
from lit_pref.batch import collate
from lit_pref.data.datamodule import PreferenceData
from lit_pref.encoding import ending_tokens
from lit_pref.errors import ConfigError
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from lit_pref.processes import Processes
from lit_pref.pruning import LowestFraction
from lit_pref.references import AdaptersOff, CachedModel, FrozenModel, MovingModel, NoReference, Reference
from lit_pref.references.many_pairs import score_pairs
from lit_pref.scoring import score
from lit_pref.similarity import USUAL, Measuring
from objectives import DPO, Objective, SimPO

ROOT = Path(__file__).resolve().parents[1]
#: Training pairs of ``pairs_file``: forty less seven for validation.
PAIRS = 33


def fit(
    folder: Path,
    pairs: Path,
    root: Path,
    *callbacks: pl.Callback,
    objective: Objective | None = None,
    reference: Reference | None = None,
    policy: CausalLM | None = None,
    **options: Any,
) -> pl.Trainer:
    module = PreferenceModule(
        policy or CausalLM(str(folder)), objective or DPO(), reference, lambda p: torch.optim.AdamW(p, lr=1e-3)
    )
    ckpt_path = options.pop("ckpt_path", None)
    data = PreferenceData(str(pairs), batch_size=4, val_size=7, val_batch_size=5)
    loggers = [CSVLogger(root, name="", version=""), TensorBoardLogger(root, name="", version="")]
    trainer = pl.Trainer(
        **{"max_epochs": 2, **options}, accelerator="cpu", callbacks=list(callbacks), logger=loggers,
        default_root_dir=root, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False, log_every_n_steps=1, reload_dataloaders_every_n_epochs=1,
        enable_checkpointing=any(isinstance(c, LastCheckpoint) for c in callbacks),
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


def lines(root: Path, epoch: int | None = None) -> dict[str, np.ndarray]:
    table = pq.read_table(root / "ledger.parquet")
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    if epoch is None:
        return columns
    return {name: column[columns["epoch"] == epoch] for name, column in columns.items()}


def evidence(root: Path) -> dict[tuple[int, str], float]:
    with (root / "metrics.csv").open() as file:
        return {
            (int(row["step"]), tag): float(value)
            for row in csv.DictReader(file)
            for tag, value in row.items()
            if value and tag.startswith("evidence/")
        }


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray], tolerance: float = 0.0) -> None:
    assert one.keys() == two.keys()
    for name, column in one.items():
        if column.dtype == object:  # with nulls
            assert column.tolist() == two[name].tolist(), name
        else:
            np.testing.assert_allclose(two[name], column, rtol=tolerance, atol=tolerance, err_msg=name)


# --- lines --------------------------------------------------------------------------------------------------------


def test_lines_are_what_scoring_gives_pair_by_pair(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    trainer = fit(model_folder, pairs_file, tmp_path, Ledger(measures=[*USUAL, "alpha_ches"], tokens_per_batch=100))
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    assert lines(tmp_path)["epoch"].tolist() == [0] * PAIRS + [1] * PAIRS + [2] * PAIRS
    steps = {0: 0, 1: 9, 2: 18}
    start = CausalLM(str(model_folder)).build_frozen()
    for epoch, model in ((0, start), (2, trainer.lightning_module.policy.eval())):  # type: ignore[union-attr, operator]
        found = lines(tmp_path, epoch)
        assert set(found["step"]) == {steps[epoch]}
        measuring = Measuring([*USUAL, "alpha_ches"], ending_tokens(data.tokenizer))
        with torch.no_grad():
            for i, position in enumerate(data.train_positions):
                pair = data.train[position]
                now, then = (score(m, collate([pair])) for m in (model, start))
                measured = measuring(model, [pair])
                expected = {
                    "row": pair.row,
                    "chosen_logps": now.chosen.logps,
                    "rejected_logps": now.rejected.logps,
                    "chosen_reference_logps": then.chosen.logps,
                    "rejected_reference_logps": then.rejected.logps,
                    "chosen_tokens": len(pair.chosen),
                    "rejected_tokens": len(pair.rejected),
                    "displacement": now.chosen.logps - then.chosen.logps,
                    "rejected_displacement": now.rejected.logps - then.rejected.logps,
                    "margin": now.chosen.logps - then.chosen.logps - (now.rejected.logps - then.rejected.logps),
                    **{name: values[0] for name, values in measured.items()},
                }
                for name, value in expected.items():
                    assert found[name][i] == pytest.approx(float(value), rel=1e-4, abs=1e-3), (epoch, pair.row, name)
        assert set(found) == {*expected, "epoch", "step", "kept"}
    assert abs(lines(tmp_path, 2)["displacement"]).min() > 0.1, "the policy must move, or nothing was compared"
    for side in ("displacement", "rejected_displacement", "margin"):
        assert set(lines(tmp_path, 0)[side]) == {0.0}, "the same weights in the same calls"


def test_kept_says_what_the_epoch_trains_on_and_all_pairs_stay(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    # Before or after the pruning callback in the list: what looks on comes after what chooses.
    watcher = Rows()
    fit(model_folder, pairs_file, tmp_path, Ledger(), CHESPruning(LowestFraction(0.5)), watcher)
    trained = watcher.epochs
    assert [len(rows) for rows in trained] == [17, 9]
    for epoch, rows in enumerate(trained):
        found = lines(tmp_path, epoch)
        assert len(found["row"]) == PAIRS
        assert found["row"][found["kept"].astype(bool)].tolist() == sorted(rows)
    assert lines(tmp_path, 2)["kept"].tolist() == [None] * PAIRS


def test_evidence_is_that_of_the_lines_that_were_trained_on(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(model_folder, pairs_file, tmp_path, Ledger(bootstrap=50), CHESPruning(LowestFraction(0.7)))
    found = {(step, tag): value for (step, tag), value in evidence(tmp_path).items() if "_run" not in tag}
    steps = sorted({step for step, _ in found})
    assert steps == [lines(tmp_path, epoch)["step"][0] for epoch in (1, 2)]
    assert {tag for _, tag in found} == {
        f"evidence/{name}_{what}/train"
        for name in USUAL
        for what in ("spearman", "spearman_low", "spearman_high", "auc")
    }
    for epoch, step in enumerate(steps):
        before, after = lines(tmp_path, epoch), lines(tmp_path, epoch + 1)
        kept = before["kept"].astype(bool)
        assert 0 < kept.sum() < PAIRS
        fall = (before["chosen_logps"] - after["chosen_logps"])[kept]
        for name in USUAL:
            rho, low, high = (found[step, f"evidence/{name}_spearman{end}/train"] for end in ("", "_low", "_high"))
            if len(set(before[name][kept])) == 1:
                assert np.isnan([rho, low, high]).all(), "constant values have no ranks"
                continue
            assert rho == pytest.approx(spearmanr(before[name][kept], fall).statistic, abs=1e-9)
            assert low <= rho <= high
    assert abs(found[steps[1], "evidence/ln_ches_spearman/train"]) > 0.01
    said = capsys.readouterr().out
    assert said.count("Over the run, of ches, ln_ches, last_hidden, edit_similarity:") == 1
    assert "Over epoch" not in said


class Rows(pl.Callback):
    """Rows of the batches of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[list[int]] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.epochs.append([])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.epochs[-1] += batch.rows.tolist()


def expected_evidence(before: dict[str, np.ndarray], after: dict[str, np.ndarray], rows: list[int]) -> Any:
    counts = np.isin(before["row"], rows)
    fall = (before["chosen_logps"] - after["chosen_logps"])[counts]
    return spearmanr(before["ln_ches"][counts], fall).statistic


@pytest.mark.parametrize(
    "options", [{"limit_train_batches": 3}, {"limit_train_batches": 0.5}, {"max_steps": 11}, {"max_steps": 5}], ids=str
)
def test_pairs_that_were_never_trained_on_are_no_evidence(
    options: dict[str, Any], model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    rows = Rows()
    fit(model_folder, pairs_file, tmp_path, rows, Ledger(["ln_ches"], bootstrap=0), **options)
    found = evidence(tmp_path)
    ends = [lines(tmp_path, epoch)["step"][0] for epoch in range(1, len(rows.epochs) + 1)]
    assert any(len(trained) < PAIRS for trained in rows.epochs)
    for epoch, trained in enumerate(rows.epochs):
        expected = expected_evidence(lines(tmp_path, epoch), lines(tmp_path, epoch + 1), trained)
        assert found[ends[epoch], "evidence/ln_ches_spearman/train"] == pytest.approx(expected, abs=1e-9)
        assert lines(tmp_path, epoch)["kept"].all(), "chosen all the same"
    first, last = lines(tmp_path, 0), lines(tmp_path, len(rows.epochs))
    expected = expected_evidence(first, last, [row for epoch in rows.epochs for row in epoch])
    assert found[ends[-1], "evidence/ln_ches_spearman_run/train"] == pytest.approx(expected, abs=1e-9)


def test_a_run_is_judged_from_its_first_measurement_to_its_last(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over all pairs that were trained on at any time, though later epochs left some of them out."""
    rows = Rows()
    fit(model_folder, pairs_file, tmp_path, rows, Ledger(bootstrap=50), CHESPruning(LowestFraction(0.5)))
    found = evidence(tmp_path)
    end = lines(tmp_path, 2)["step"][0]
    names = [tag for step, tag in found if step == end and "_run" in tag]
    assert set(names) == {
        f"evidence/{name}_{what}/train"
        for name in USUAL
        for what in ("spearman_run", "spearman_run_low", "spearman_run_high", "auc_run")
    }
    assert not [tag for step, tag in found if step != end and "_run" in tag]
    expected = expected_evidence(lines(tmp_path, 0), lines(tmp_path, 2), rows.epochs[0])
    assert found[end, "evidence/ln_ches_spearman_run/train"] == pytest.approx(expected, abs=1e-9)
    assert expected != pytest.approx(found[end, "evidence/ln_ches_spearman/train"], abs=1e-3)
    said = capsys.readouterr().out
    assert "17 pairs)" in said
    assert "interval" in said
    assert "corrected for 4 measures" in said


def test_the_figure_is_in_tensorboard(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(model_folder, pairs_file, tmp_path, Ledger(bootstrap=5))
    images = EventAccumulator(str(tmp_path)).Reload().Images("evidence/scatter/train")
    assert [image.step for image in images] == [9, 18]
    assert all(image.width > 500 for image in images)


def test_looking_on_changes_nothing(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    plain = fit(model_folder, pairs_file, tmp_path / "a")
    watched = fit(model_folder, pairs_file, tmp_path / "b", Ledger(bootstrap=5))
    assert torch.equal(weights(plain.lightning_module.policy), weights(watched.lightning_module.policy))


# --- references ---------------------------------------------------------------------------------------------------


def test_without_a_reference_the_first_measurement_is_the_zero(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    fit(model_folder, pairs_file, tmp_path, Ledger(), objective=SimPO(), reference=NoReference())
    first, last = lines(tmp_path, 0), lines(tmp_path, 2)
    assert set(first["displacement"]) == {0.0}
    np.testing.assert_array_equal(last["displacement"], last["chosen_logps"] - first["chosen_logps"])
    np.testing.assert_array_equal(last["rejected_displacement"], last["rejected_logps"] - first["rejected_logps"])
    assert abs(last["displacement"]).min() > 1e-3
    for side in ("chosen", "rejected"):
        assert set(lines(tmp_path)[f"{side}_reference_logps"]) == {None}


def test_a_cached_reference_gives_the_lines_of_a_frozen_one(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    fit(model_folder, pairs_file, tmp_path / "a", Ledger(), reference=FrozenModel())
    cached = CachedModel(cache_dir=str(tmp_path / "cache"))
    fit(model_folder, pairs_file, tmp_path / "b", Ledger(), reference=cached)
    same(lines(tmp_path / "a"), lines(tmp_path / "b"), tolerance=2e-4)


def test_a_moving_reference_moves_and_the_zero_stays(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    fit(model_folder, pairs_file, tmp_path, Ledger(), reference=MovingModel(alpha=1.0, every_n_steps=9))
    first, middle, last = (lines(tmp_path, epoch) for epoch in (0, 1, 2))
    for found in (first, middle, last):  # updated at steps 9 and 18, where the ledger looks
        np.testing.assert_allclose(found["chosen_reference_logps"], found["chosen_logps"], atol=1e-4)
    assert abs(middle["chosen_reference_logps"] - first["chosen_reference_logps"]).min() > 1e-3
    np.testing.assert_allclose(last["displacement"], last["chosen_logps"] - first["chosen_logps"], atol=1e-4)


@pytest.mark.parametrize(("reference", "asked"), [(FrozenModel, 1), (MovingModel, 3)])
def test_a_reference_that_stays_is_asked_once(
    reference: type[Reference],
    asked: int,
    model_folder: Path,
    pairs_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    original = ledger_module.score_pairs

    def count(*args: Any) -> Any:
        calls.append(len(args[3]))
        return original(*args)

    monkeypatch.setattr(ledger_module, "score_pairs", count)
    fit(model_folder, pairs_file, tmp_path, Ledger(bootstrap=5), reference=reference())
    assert calls == [PAIRS] * asked


@pytest.mark.parametrize("budget", [40, 100, 10_000])
def test_a_reference_is_scored_alike_by_any_number_of_processes(
    budget: int, model_folder: Path, small_model: Any, random_pairs: Any
) -> None:
    source, policy, pairs = CausalLM(str(model_folder)), small_model(seed=1), random_pairs(11)
    reference = MovingModel()
    reference.build(source)
    with torch.no_grad():
        reference.moving.lm_head.weight += 1.0  # type: ignore[union-attr, operator]
    positions = [7, 0, 3, 10, 5]
    alone = score_pairs(reference, policy, pairs, positions, budget)
    for which, model in ((alone.reference, reference.moving), (alone.initial, reference.frozen)):
        scores = score(model, collate([pairs[p] for p in positions]))  # type: ignore[arg-type]
        expected = torch.stack([scores.chosen.logps, scores.rejected.logps], -1)
        torch.testing.assert_close(which, expected.detach().double(), rtol=1e-5, atol=1e-4)
    shares: list[list[torch.Tensor]] = []
    for rank in range(3):
        own: list[torch.Tensor] = []

        def total(table: torch.Tensor, own: list[torch.Tensor] = own) -> torch.Tensor:
            own.append(table)
            return table

        score_pairs(reference, policy, pairs, positions, budget, Processes(rank, 3, total=total))
        shares.append(own)
    sums = iter([torch.stack(tables).sum(0) for tables in zip(*shares, strict=True)])
    together = score_pairs(reference, policy, pairs, positions, budget, Processes(0, 3, total=lambda _: next(sums)))
    assert torch.equal(together.reference, alone.reference)  # type: ignore[arg-type]
    assert torch.equal(together.initial, alone.initial)  # type: ignore[arg-type]


def test_adapters_that_are_off_and_a_start_give_the_numbers_of_the_policy_in_its_own_calls(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    """To the last bit, before training: fresh adapters change no value."""
    lora = CausalLM(str(model_folder), lora=LoRA(r=2))
    fit(model_folder, pairs_file, tmp_path / "a", Ledger([]), policy=lora, reference=AdaptersOff())
    fit(model_folder, pairs_file, tmp_path / "b", Ledger([]), reference=MovingModel())
    for name in "ab":
        assert set(lines(tmp_path / name, 0)["displacement"]) == {0.0}
        assert abs(lines(tmp_path / name, 2)["displacement"]).min() > 1e-4


# --- ends and restarts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("epoch end", FrozenModel),
        ("finished run", FrozenModel),
        ("within an epoch", FrozenModel),
        ("within an epoch", NoReference),
        ("within an epoch", MovingModel),
    ],
)
def test_a_restart_writes_the_lines_of_a_run_without_one(
    kind: str, reference: type[Reference], model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    def watchers() -> list[pl.Callback]:
        return [ValidateEnds(), CHESPruning(LowestFraction(0.8)), Ledger(bootstrap=20), LastCheckpoint()]

    def run(name: str, **options: Any) -> pl.Trainer:
        given = MovingModel(0.5, 2) if reference is MovingModel else reference()
        more = {"objective": SimPO(), "reference": given, "max_epochs": 3, **options}
        return fit(model_folder, pairs_file, tmp_path / name, *watchers(), **more)

    run("a")
    first = run("b", **({"max_steps": 9} if kind == "within an epoch" else {"max_epochs": 2}))
    if kind == "within an epoch":
        assert lines(tmp_path / "b")["step"][-1] == 9, "the first part ends with lines of its own"
        assert len(set(lines(tmp_path / "a")["step"]) - {9}) == 4, "no epoch of the whole run begins there"
    checkpoint = tmp_path / "b/checkpoints/last.ckpt"
    if kind == "finished run":
        checkpoint = tmp_path / "later.ckpt"
        first.save_checkpoint(checkpoint)
    run("c", ckpt_path=str(checkpoint))
    same(lines(tmp_path / "a"), lines(tmp_path / "c"))
    expected = {key: value for key, value in evidence(tmp_path / "a").items() if key[0] > first.global_step}
    found = {key: value for key, value in evidence(tmp_path / "c").items() if key[0] > first.global_step}
    assert expected
    assert found == pytest.approx(expected, abs=0, nan_ok=True)


def test_a_run_that_is_stopped_has_its_last_lines(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    fit(model_folder, pairs_file, tmp_path / "a", Ledger(bootstrap=5), max_steps=4)
    assert lines(tmp_path / "a")["step"].tolist() == [0] * PAIRS + [4] * PAIRS
    assert {step for step, _ in evidence(tmp_path / "a")} == {4}
    guard = DisplacementGuard(0.0, "stop")
    options: dict[str, Any] = {"val_check_interval": 3, "objective": Sinking()}
    fit(model_folder, pairs_file, tmp_path / "b", Ledger(bootstrap=5), guard, **options)
    assert lines(tmp_path / "b")["step"].tolist() == [0] * PAIRS + [3] * PAIRS


class Sinking(DPO):
    """Makes chosen responses less likely."""

    def forward(self, policy: Any, reference: Any) -> Any:
        return super().forward(policy, reference)._replace(losses=policy.chosen.logps)


def test_other_pairs_start_a_new_comparison(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(model_folder, pairs_file, tmp_path / "a", Ledger(), LastCheckpoint(), max_epochs=1)
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text("".join(pairs_file.read_text().splitlines(keepends=True)[:-5]))
    checkpoint = str(tmp_path / "a/checkpoints/last.ckpt")
    fit(model_folder, fewer, tmp_path / "b", Ledger(["ches"], bootstrap=5), LastCheckpoint(), ckpt_path=checkpoint)
    assert "not those of the checkpoint" in capsys.readouterr().out
    assert [len(lines(tmp_path / "b", epoch)["row"]) for epoch in (0, 1, 2)] == [PAIRS, PAIRS - 5, PAIRS - 5]
    assert {step for step, _ in evidence(tmp_path / "b")} == {9 + 7}


def test_a_restart_of_a_finished_run_measures_nothing(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    fit(model_folder, pairs_file, tmp_path / "a", Ledger(), LastCheckpoint(), max_epochs=1)
    checkpoint = str(tmp_path / "a/checkpoints/last.ckpt")
    fit(model_folder, pairs_file, tmp_path / "b", Ledger(), LastCheckpoint(), max_epochs=1, ckpt_path=checkpoint)
    assert lines(tmp_path / "b")["epoch"].tolist() == [0] * PAIRS


def test_the_state_loads_without_code(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    fit(model_folder, pairs_file, tmp_path, Ledger(), LastCheckpoint())
    state = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["callbacks"]["Ledger"]
    assert state["measured_for"] == 1
    for moment in ("first", "before"):
        assert state[moment]["ln_ches"].shape == (PAIRS,)
        assert state[moment]["trained"].dtype == torch.bool
        assert state[moment]["trained"].all()


@pytest.mark.parametrize("options", [{"measures": ["chess"]}, {"bootstrap": -1}, {"tokens_per_batch": 0}])
def test_bad_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, ValueError), match="chess|bootstrap|tokens_per_batch"):
        Ledger(**options)


# --- processes ----------------------------------------------------------------------------------------------------


LOSSES = """
from objectives import DPO

class Sinking(DPO):
    def forward(self, policy, reference):
        return super().forward(policy, reference)._replace(losses=policy.chosen.logps)
"""


def test_two_processes_write_the_lines_of_one(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    """With a guard that prunes: what it saw, and what it kept, is the same too."""
    (tmp_path / "my_losses.py").write_text(LOSSES)
    found = []
    for devices, batch_size in ((1, 8), (2, 4)):
        arguments = [
            "-c", str(ROOT / "configs/base.yaml"), "-c", str(ROOT / "configs/callbacks/ledger.yaml"),
            "-c", str(ROOT / "configs/callbacks/displacement_guard.yaml"), "--model.objective=my_losses.Sinking",
            "--trainer.callbacks.action=prune", "--trainer.callbacks.budget_nats=0.1",
            f"--model.policy.path={model_folder}", "--model.optimizer.lr=1e-4", f"--data.path={pairs_file}",
            f"--data.batch_size={batch_size}", "--data.val_size=7", "--trainer.accelerator=cpu",
            f"--trainer.devices={devices}", f"--trainer.strategy={'ddp' if devices > 1 else 'auto'}",
            "--trainer.max_epochs=2", "--trainer.enable_checkpointing=false",
            f"--run.root={tmp_path}", f"--run.name=on_{devices}",
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"}
        environment.pop("LIT_PREF_RUN_DIR", None)
        result = subprocess.run(
            [sys.executable, "-m", "lit_pref", "fit", *arguments], cwd=tmp_path, capture_output=True, text=True,
            env=environment, timeout=240,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr[-3000:]
        assert result.stdout.count("Over the run") == 1
        assert result.stdout.count("33 pairs)") >= 1, "of all processes together"
        found.append(tmp_path / f"on_{devices}/version_0")
    one, two = (lines(root) for root in found)
    assert one["epoch"].tolist() == [0] * PAIRS + [1] * PAIRS + [2] * PAIRS
    same(one, two, tolerance=5e-3)
    assert one["displacement"][-PAIRS:].max() < -0.05
    assert sum(one["kept"][PAIRS : 2 * PAIRS]) == 17
    first, second = (evidence(root) for root in found)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert second[key] == pytest.approx(value, abs=0.02, nan_ok=True), key
