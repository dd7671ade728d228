"""The guard acts where, and only where, held-out responses fell beyond the budget; restarts change nothing."""

import csv
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from callbacks import CHESPruning, Displacement, DisplacementGuard, LastCheckpoint, ValidateEnds
from lit_pref.data.datamodule import PreferenceData
from lit_pref.errors import ConfigError
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from lit_pref.pruning import LowestCount, LowestFraction
from lit_pref.references import FrozenModel, NoReference, Reference
from objectives import DPO, SFT, Objective, ObjectiveOutput, SimPO, WeightedSum
from objectives.wpo import WPO


class Sink(Objective):
    """Makes chosen responses less likely, and from a step on not a number."""

    needs_reference = False

    def __init__(self, diverges: bool = False) -> None:
        super().__init__()
        self.diverges = diverges

    def forward(self, policy: Any, reference: Any) -> ObjectiveOutput:
        chosen = policy.chosen.logps * (math.nan if self.diverges and torch.is_grad_enabled() else 1.0)
        return ObjectiveOutput(chosen, chosen.detach(), chosen.detach())


def with_sft(weight: float = 0.01) -> WeightedSum:
    return WeightedSum([Sink(), SFT("sum")], [1.0, weight])


def fit(
    folder: Path,
    pairs: Path,
    root: Path,
    *callbacks: pl.Callback,
    objective: Objective | None = None,
    reference: Reference | None = None,
    **options: Any,
) -> pl.Trainer:
    module = PreferenceModule(
        CausalLM(str(folder)), objective or Sink(), reference or FrozenModel(), lambda p: torch.optim.SGD(p, lr=1e-3)
    )
    ckpt_path, val_size = options.pop("ckpt_path", None), options.pop("val_size", 7)
    data = PreferenceData(str(pairs), batch_size=4, val_size=val_size, val_batch_size=5)
    trainer = pl.Trainer(
        **{"max_epochs": 3, "val_check_interval": 3, **options}, accelerator="cpu", default_root_dir=root,
        callbacks=[ValidateEnds(), Displacement(), *callbacks, LastCheckpoint()], num_sanity_val_steps=0,
        logger=CSVLogger(root, name="", version=""), log_every_n_steps=1, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, reload_dataloaders_every_n_epochs=1,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


def curve(root: Path, tag: str) -> dict[int, float]:
    with (root / "metrics.csv").open() as file:
        return {int(row["step"]): float(row[tag]) for row in csv.DictReader(file) if row.get(tag)}


def weights(trainer: pl.Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.lightning_module.policy.parameters()])  # type: ignore[union-attr, operator]


def last(root: Path) -> str:
    return str(root / "checkpoints/last.ckpt")


# --- stop ---------------------------------------------------------------------------------------------------------


def test_stop_ends_training_at_the_first_validation_beyond_the_budget(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(model_folder, pairs_file, tmp_path / "a")
    falls = {step: -value for step, value in curve(tmp_path / "a", "displacement/chosen/val").items()}
    assert falls[0] == 0 < falls[3] < falls[6] < falls[9]
    budget = (falls[3] + falls[6]) / 2
    capsys.readouterr()
    trainer = fit(model_folder, pairs_file, tmp_path / "b", DisplacementGuard(budget, "stop"))
    assert trainer.global_step == 6
    said = capsys.readouterr().out
    assert said.count("DisplacementGuard") == 1
    assert f"step 6: the chosen log-probability of 7 validation pairs fell by {falls[6]:.2f} nats on average" in said
    assert f"the budget of {budget:g}. Training stops here." in said
    assert curve(tmp_path / "b", "guard/acts/val") == {0: 0, 3: 0, 6: 1}
    assert list(curve(tmp_path / "b", "displacement/chosen/val")) == [0, 3, 6]


@pytest.mark.parametrize("every", [3, 1.0], ids=["within an epoch", "at its end"])
def test_a_stopped_run_goes_on_from_its_checkpoint(
    every: float, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"val_check_interval": every, "max_epochs": 2}
    whole = fit(model_folder, pairs_file, tmp_path / "a", **options)
    stopped = fit(model_folder, pairs_file, tmp_path / "b", DisplacementGuard(0.0, "stop"), **options)
    assert stopped.global_step == (3 if every == 3 else 9)
    wide = DisplacementGuard(1e6, "stop")
    resumed = fit(model_folder, pairs_file, tmp_path / "c", wide, ckpt_path=last(tmp_path / "b"), **options)
    assert resumed.global_step == whole.global_step == 18
    assert torch.equal(weights(resumed), weights(whole))
    assert wide.acts == 1, "that of the first part"


def test_it_does_not_act_before_training_or_within_the_budget(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = FrozenModel(CausalLM(str(model_folder), weights="random", seed=3))
    guard = DisplacementGuard(1e6, "stop")
    fit(model_folder, pairs_file, tmp_path / "a", guard, max_epochs=1)
    assert guard.acts == 0
    assert "DisplacementGuard" not in capsys.readouterr().out
    guard = DisplacementGuard(0.0, "stop")
    trainer = fit(model_folder, pairs_file, tmp_path / "b", guard, reference=elsewhere, max_epochs=1)
    assert trainer.global_step == 3, "even where the reference is another model, training begins"
    assert curve(tmp_path / "b", "displacement/chosen/val")[0] < 0, "beyond the budget from the start"
    assert "step 0" not in capsys.readouterr().out


def test_what_is_seen_after_the_end_is_said_and_not_acted_on(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = DisplacementGuard(0.0, "raise_sft_weight")
    fit(model_folder, pairs_file, tmp_path, guard, objective=with_sft(), max_steps=4)
    assert curve(tmp_path, "guard/sft_weight/val") == {0: 0.01, 3: 0.02, 4: 0.02}
    assert guard.acts == 1
    assert capsys.readouterr().out.count("Training has ended, so nothing is done about it.") == 1


@pytest.mark.parametrize("action", ["stop", "prune"])
def test_a_run_that_diverged_is_within_no_budget(
    action: Any, model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = DisplacementGuard(1e6, action)
    trainer = fit(model_folder, pairs_file, tmp_path, guard, objective=Sink(diverges=True), max_epochs=1)
    said = capsys.readouterr().out
    assert "is no longer a finite number: the run diverged." in said
    assert trainer.global_step == (3 if action == "stop" else 9)
    assert guard.acts == (1 if action == "stop" else 0)
    assert ("Training stops here." if action == "stop" else "training goes on.") in said


# --- prune --------------------------------------------------------------------------------------------------------


def kept(trainer: pl.Trainer) -> list[int]:
    return trainer.datamodule.kept  # type: ignore[attr-defined, no-any-return]


def test_prune_keeps_what_the_rule_chooses_before_the_next_epoch(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    trainer = fit(model_folder, pairs_file, tmp_path, DisplacementGuard(0.0, "prune"))
    assert len(kept(trainer)) == 9, "33, 17, 9"
    assert curve(tmp_path, "pruning/kept/train") == {9: pytest.approx(17 / 33), 14: pytest.approx(9 / 33)}
    assert curve(tmp_path, "guard/acts/val") == {0: 0, 3: 1, 6: 1, 9: 1, 12: 2, 17: 3}
    table = pq.read_table(tmp_path / "guard_kept_rows.parquet").to_pydict()
    assert table["epoch"] == [1] * 33 + [2] * 17
    for epoch in (1, 2):
        scores = [(s, k) for e, s, k in zip(table["epoch"], table["score"], table["kept"], strict=True) if e == epoch]
        assert max(s for s, k in scores if k) <= min(s for s, k in scores if not k)


@pytest.mark.parametrize("steps", [3, 4, 9, 11], ids=["asked now", "asked and pending", "epoch end", "after pruning"])
def test_prune_survives_a_restart(steps: int, model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    whole = fit(model_folder, pairs_file, tmp_path / "a", DisplacementGuard(0.0, "prune"))
    part = {"max_epochs": 1} if steps == 9 else {"max_steps": steps}
    fit(model_folder, pairs_file, tmp_path / "b", DisplacementGuard(0.0, "prune"), **part)
    resumed = fit(
        model_folder, pairs_file, tmp_path / "c", DisplacementGuard(0.0, "prune"), ckpt_path=last(tmp_path / "b")
    )
    assert kept(resumed) == kept(whole)
    assert resumed.global_step == whole.global_step
    assert torch.equal(weights(resumed), weights(whole))
    tables = [pq.read_table(tmp_path / name / "guard_kept_rows.parquet").to_pydict() for name in "ac"]
    assert tables[0] == tables[1]
    acts = curve(tmp_path / "a", "guard/acts/val")
    assert curve(tmp_path / "c", "guard/acts/val") == {step: n for step, n in acts.items() if step > steps}


def test_a_guard_does_not_end_a_run_that_it_cannot_prune(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = fit(
        model_folder, pairs_file, tmp_path, DisplacementGuard(0.0, "prune", rule=LowestCount(3)), max_epochs=2
    )
    assert trainer.global_step == 18
    assert "less than one batch of 4; training goes on with all 33 pairs." in capsys.readouterr().out


@pytest.mark.parametrize("from_epoch", [0, 2])
@pytest.mark.parametrize("repeats", [True, False])
def test_prune_repeats_pairs_where_the_run_does(
    from_epoch: int, repeats: bool, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    pruning = CHESPruning(LowestFraction(0.75), every_n_epochs=5, from_epoch=from_epoch, match_steps=repeats)
    guard = DisplacementGuard(0.0, "prune")
    trainer = fit(model_folder, pairs_file, tmp_path, pruning, guard, max_epochs=2, val_check_interval=1.0)
    assert len(kept(trainer)) == (13 if from_epoch == 0 else 17)
    first = 9 if repeats or from_epoch else 7
    assert trainer.global_step == first + (9 if repeats else 4 if from_epoch == 0 else 5)


@pytest.mark.parametrize("order", [1, -1])
def test_pruning_that_would_undo_the_guard_is_refused(
    order: int, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    both: list[pl.Callback] = [
        CHESPruning(LowestFraction(0.75), cumulative=False), DisplacementGuard(0.0, "prune")
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"take them back before the next epoch\.\n  Fix: set cumulative to true"):
        fit(model_folder, pairs_file, tmp_path, *both[::order])


def test_a_guard_that_stops_may_stand_beside_any_pruning(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    pruning = CHESPruning(LowestFraction(0.75), cumulative=False)
    trainer = fit(model_folder, pairs_file, tmp_path, pruning, DisplacementGuard(0.0, "stop"))
    assert trainer.global_step == 3


# --- raise the weight of the SFT term -----------------------------------------------------------------------------


def test_the_sft_weight_grows_until_its_most(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = DisplacementGuard(0.0, "raise_sft_weight", step=3.0, max_sft_weight=0.5)
    trainer = fit(model_folder, pairs_file, tmp_path, guard, objective=with_sft(0.1), max_epochs=1)
    assert trainer.lightning_module.objective.weights == [1.0, 0.5]  # type: ignore[union-attr]
    grown = curve(tmp_path, "guard/sft_weight/val")
    assert grown == {0: 0.1, 3: pytest.approx(0.3), 6: 0.5, 9: 0.5}
    assert curve(tmp_path, "guard/acts/val") == {0: 0, 3: 1, 6: 2, 9: 2}
    said = capsys.readouterr().out
    assert "The weight of the SFT term goes from 0.1 to 0.3." in said
    assert "is 0.5 already, the most that max_sft_weight allows" in said


def test_a_raised_weight_is_what_training_uses(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    plain = fit(model_folder, pairs_file, tmp_path / "a", objective=with_sft(), max_epochs=1)
    guard = DisplacementGuard(0.0, "raise_sft_weight", step=50.0)
    guarded = fit(model_folder, pairs_file, tmp_path / "b", guard, objective=with_sft(), max_epochs=1)
    falls = [-curve(tmp_path / name, "displacement/chosen/val")[9] for name in "ab"]
    assert falls[1] < 0.8 * falls[0]
    assert not torch.equal(weights(plain), weights(guarded))


@pytest.mark.parametrize("steps", [6, 7, 9], ids=["at a validation", "within an epoch", "epoch end"])
def test_the_weight_survives_a_restart(steps: int, model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    def run(name: str, **options: Any) -> pl.Trainer:
        guard = DisplacementGuard(0.0, "raise_sft_weight", step=1.1)
        objective = WPO(with_sft(0.03))  # also inside a modifier
        return fit(model_folder, pairs_file, tmp_path / name, guard, objective=objective, max_epochs=2, **options)

    whole = run("a")
    run("b", max_steps=steps)
    resumed = run("c", ckpt_path=last(tmp_path / "b"))
    assert torch.equal(weights(resumed), weights(whole))
    grown = curve(tmp_path / "a", "guard/sft_weight/val")
    assert len(set(grown.values())) > 4
    assert curve(tmp_path / "c", "guard/sft_weight/val") == {s: w for s, w in grown.items() if s > steps}


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Sink(), r"model\.objective, Sink, has none\.\n  Fix: .*configs/objectives/dpo_sft\.yaml"),
        (WeightedSum([DPO()], [1.0]), "WeightedSum, has none"),
        (with_sft(0.0), "the weight of the SFT term is 0, but DisplacementGuard multiplies it"),
        (with_sft(20.0), "up to max_sft_weight 10"),
    ],
    ids=["no sum", "no term", "zero", "too large"],
)
def test_an_objective_without_a_weight_to_raise_is_refused(
    objective: Objective, message: str, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(model_folder, pairs_file, tmp_path, DisplacementGuard(1.0, "raise_sft_weight"), objective=objective)


def test_no_reference_and_no_validation_are_refused(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    module = PreferenceModule(CausalLM(str(model_folder)), SimPO(), NoReference())
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, callbacks=[DisplacementGuard(1.0, "stop")], default_root_dir=tmp_path
    )
    with pytest.raises(ConfigError, match="remove the callback, or set model.reference"):
        trainer.fit(module, PreferenceData(str(pairs_file)))
    with pytest.raises(ConfigError, match=r"validates on none.\n  Fix: set data\.val_size"):
        fit(model_folder, pairs_file, tmp_path, DisplacementGuard(1.0, "stop"), limit_val_batches=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_epochs": 2}, r"trainer\.min_epochs is 2, and until then Lightning goes on"),
        ({"min_epochs": 1}, r"trainer\.min_epochs is 1, and"),
        ({"min_steps": 5}, r"trainer\.min_(steps|epochs) is"),
        ({"min_steps": 5, "val_check_interval": 1.0}, r"trainer\.min_steps is 5, and until then"),
    ],
    ids=str,
)
def test_a_run_that_cannot_be_stopped_is_refused(
    options: dict[str, Any], words: str, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        fit(model_folder, pairs_file, tmp_path, DisplacementGuard(0.0, "stop"), **options)


def test_a_least_of_one_epoch_does_not_hinder_a_stop_at_its_end(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    guard = DisplacementGuard(0.0, "stop")
    assert fit(model_folder, pairs_file, tmp_path, guard, min_epochs=1, val_check_interval=1.0).global_step == 9


@pytest.mark.parametrize(
    ("options", "first", "total"),
    [
        ({"check_val_every_n_epoch": 4}, 36, 27),
        ({"check_val_every_n_epoch": 5, "max_epochs": 1000, "max_steps": 26}, 45, 26),
        ({"max_steps": 8}, 9, 8),
        ({"max_steps": 4, "accumulate_grad_batches": 2}, 9, 8),
        ({"check_val_every_n_epoch": 4, "val_check_interval": 2}, 29, 27),
        ({"check_val_every_n_epoch": None, "val_check_interval": 30}, 30, 27),
    ],
    ids=str,
)
def test_a_run_that_never_validates_in_between_is_refused(
    options: dict[str, Any], first: int, total: int, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    guard = DisplacementGuard(0.0, "stop")
    with pytest.raises(ConfigError, match=rf"would come after batch {first} of {total}\.\n  Fix: lower"):
        fit(model_folder, pairs_file, tmp_path, guard, **{"val_check_interval": 1.0, **options})


@pytest.mark.parametrize(
    ("options", "steps", "said"),
    [
        ({"check_val_every_n_epoch": 3}, 27, True),
        ({"max_epochs": 1}, 9, True),
        ({"check_val_every_n_epoch": 2}, 18, False),
        ({"check_val_every_n_epoch": None, "val_check_interval": 11}, 11, False),
        ({"check_val_every_n_epoch": 2, "val_check_interval": 2}, 11, False),
        ({"max_epochs": 1, "val_check_interval": 0.5}, 4, False),
        ({"limit_train_batches": 4}, 4, False),
        ({"limit_train_batches": 0.5, "max_epochs": 1}, 4, True),
    ],
    ids=str,
)
def test_a_guard_whose_first_look_comes_too_late_says_so(
    options: dict[str, Any], steps: int, said: bool, model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: Any
) -> None:
    """The numbers that are foretold are those of Lightning: the first look ends the run."""
    guard = DisplacementGuard(0.0, "stop")
    trainer = fit(model_folder, pairs_file, tmp_path, guard, **{"val_check_interval": 1.0, **options})
    assert trainer.global_step == steps
    assert ("comes after its last step" in capsys.readouterr().out) == said


@pytest.mark.parametrize(
    ("action", "given", "owner"),
    [
        ("stop", {"rule": LowestCount(3)}, "prune"),
        ("stop", {"measure": "ches"}, "prune"),
        ("stop", {"step": 2.0}, "raise_sft_weight"),
        ("stop", {"max_sft_weight": 10.0}, "raise_sft_weight"),
        ("prune", {"step": 2.0}, "raise_sft_weight"),
        ("raise_sft_weight", {"tokens_per_batch": 99}, "prune"),
    ],
    ids=lambda value: value if isinstance(value, str) else "".join(value),
)
def test_arguments_of_another_action_are_refused(action: Any, given: dict[str, Any], owner: str) -> None:
    (name,) = given
    words = f"{name} is an argument of DisplacementGuard's action '{owner}', but the action is '{action}'.\n  Fix: "
    with pytest.raises(ValueError, match=words):
        DisplacementGuard(1.0, action, **given)


@pytest.mark.parametrize(
    "options",
    [
        {"budget_nats": -1.0},
        {"budget_nats": math.nan},
        {"action": "raise_sft_weight", "step": 1.0},
        {"action": "pray"},
        {"action": "prune", "measure": "chess"},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="budget_nats is|step is|action is|no measure 'chess'"):
        DisplacementGuard(**{"budget_nats": 1.0, "action": "stop", **options})
