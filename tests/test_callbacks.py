"""Callbacks: exact numbers over examples, the right moments, sentences that follow from the numbers."""

import csv
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from callbacks import (
    Dashboard,
    Displacement,
    ExampleTable,
    MassShift,
    MovedRows,
    PreferenceMetrics,
    ValidateEnds,
)
from callbacks.displacement import displacement, displacement_scalars, displacement_sentences
from callbacks.mass_shift import _tags, largest_changes
from lit_pref.data.datamodule import PreferenceData
from lit_pref.errors import ConfigError
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from lit_pref.references import NoReference
from objectives import DPO, Objective, SimPO


def run(
    folder: Path,
    pairs: Path,
    root: Path,
    *callbacks: pl.Callback,
    objective: Objective | None = None,
    **options: Any,
) -> tuple[pl.Trainer, PreferenceModule]:
    batch_size, ckpt_path = options.pop("batch_size", 4), options.pop("ckpt_path", None)
    module = PreferenceModule(
        CausalLM(str(folder)), objective or DPO(), optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3)
    )
    data = PreferenceData(
        str(pairs), batch_size=batch_size, val_batch_size=options.pop("val_batch_size", 3), val_size=7
    )
    loggers = [CSVLogger(root, name="", version=""), TensorBoardLogger(root, name="", version="")]
    trainer = pl.Trainer(
        **{"max_steps": 6, "log_every_n_steps": 1, "val_check_interval": 3, **options}, accelerator="cpu",
        callbacks=list(callbacks), logger=loggers, default_root_dir=root, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer, module


def curve(root: Path, tag: str) -> dict[int, float]:
    with (root / "metrics.csv").open() as file:
        return {int(row["step"]): float(row[tag]) for row in csv.DictReader(file) if row.get(tag)}


# --- the numbers --------------------------------------------------------------------------------------------------


def test_displacement_by_hand(make_scores: Any) -> None:
    values = displacement(
        make_scores([-10.0, -4.0], [-6.0, -9.0], [5, 2], [3, 3]),
        make_scores([-8.0, -6.0], [-3.0, -9.0], [5, 2], [3, 3]),
    )
    assert {name: column.tolist() for name, column in values.items()} == {
        "chosen": [-2.0, 2.0],
        "rejected": [-3.0, 0.0],
        "chosen_per_token": pytest.approx([-0.4, 1.0]),
        "rejected_per_token": [-1.0, 0.0],
        "margin": [1.0, 2.0],
    }


def test_scalars_are_over_examples() -> None:
    chosen = torch.arange(-20.0, 5.0).double()
    scalars = displacement_scalars({"chosen": chosen, "margin": -chosen})
    assert scalars["chosen"] == chosen.mean()
    assert scalars["share_displaced"] == 20 / 25
    assert scalars["accuracies"] == 20 / 25
    assert scalars["worst_decile"] == pytest.approx((-20 - 19 - 18) / 3)  # the tenth of 25 pairs: 3 of them


def test_a_nan_stays_a_nan() -> None:
    scalars = displacement_scalars({"chosen": torch.tensor([1.0, math.nan]), "margin": torch.ones(2)})
    assert all(math.isnan(scalars[name]) for name in ("chosen", "share_displaced", "worst_decile", "accuracies"))


FELL = {"chosen": -3.14, "rejected": -8.1, "margin": 4.96, "share_displaced": 0.71, "worst_decile": -9.0}


def test_sentences_say_what_the_numbers_say() -> None:
    text = displacement_sentences(FELL, 1234)
    assert "Over 1,234 validation pairs, the chosen log-probability fell by 3.1 nats on average" in text
    assert "71% of the pairs" in text
    assert "fell by 9.0 nats" in text
    assert "the margin rose by 5.0 nats" in text
    assert "likelihood displacement" in text


@pytest.mark.parametrize("change", [{"chosen": 1.0}, {"margin": -1.0}, {"chosen": -0.01}, {"margin": 0.01}], ids=str)
def test_only_a_change_that_shows_is_called_displacement(change: dict[str, float]) -> None:
    assert "likelihood displacement" not in displacement_sentences({**FELL, **change}, 10)


def test_a_run_that_diverged_is_called_that() -> None:
    assert displacement_sentences({**FELL, "chosen": math.nan}, 10).endswith("the run diverged.")


def test_mass_tags_never_collide() -> None:
    assert _tags({5: "Yes", 6: " Yes", 7: "Yes", 8: "_Yes", 9: "\n"}) == {
        5: "mass/Yes/val", 6: "mass/_Yes/val", 7: "mass/token_7/val", 8: "mass/token_8/val", 9: "mass/token_9/val",
    }  # fmt: skip


def test_tables_do_not_depend_on_how_examples_were_dealt() -> None:
    rows, values = torch.randperm(20), torch.randn(20)
    results = []
    for size in (20, 3):
        table = ExampleTable()
        for i in range(0, 20, size):
            part = slice(i, i + size)
            table.update(rows[part], {"x": values[part]})
        results.append(table.columns())
    assert torch.equal(results[0]["x"], results[1]["x"])
    assert results[0]["row"].tolist() == list(range(20))


def test_a_table_of_one_example_is_a_table() -> None:
    table = ExampleTable()
    table.update(torch.tensor([3]), {"x": torch.tensor([1.0])})
    table.update(torch.tensor([], dtype=torch.int64), {"x": torch.tensor([])})
    assert table.columns()["x"].tolist() == [1.0]


def test_largest_changes() -> None:
    before, after = torch.tensor([0.5, 0.302, 0.198, 0.0]), torch.tensor([0.1, 0.3, 0.35, 0.25])
    assert largest_changes(before, after, 3) == ([3, 2], [0])
    assert largest_changes(before, after, 1) == ([3], [0])
    assert largest_changes(before, before, 3) == ([], [])


# --- in a run -----------------------------------------------------------------------------------------------------


def test_curves_start_at_zero_and_end_at_the_last_step(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    run(model_folder, pairs_file, tmp_path, ValidateEnds(), PreferenceMetrics(), Displacement(), max_steps=7)
    val = curve(tmp_path, "displacement/chosen/val")
    assert list(val) == [0, 3, 6, 7]
    assert val[0] == 0.0
    assert val[7] != 0.0
    assert list(curve(tmp_path, "displacement/chosen/train")) == [0, 1, 2, 3, 4, 5, 6]
    assert curve(tmp_path, "loss/train")[0] == pytest.approx(math.log(2), abs=1e-6)
    assert set(curve(tmp_path, "data/pairs/val").values()) == {7.0}


def test_validation_numbers_do_not_depend_on_the_batch_size(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    for name, size in (("a", 7), ("b", 2)):
        run(model_folder, pairs_file, tmp_path / name, ValidateEnds(), Displacement(), val_batch_size=size)
    for tag in ("chosen", "share_displaced", "worst_decile", "chosen_per_token"):
        a, b = (list(curve(tmp_path / n, f"displacement/{tag}/val").values()) for n in "ab")
        assert a == pytest.approx(b, abs=1e-5)


def test_training_numbers_are_over_all_examples_since_the_last_ones(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    run(
        model_folder,
        pairs_file,
        tmp_path,
        PreferenceMetrics(),
        log_every_n_steps=3,
        max_steps=8,
        max_epochs=-1,
    )
    pairs = curve(tmp_path, "data/pairs/train")
    assert pairs == {0: 4, 3: 12, 6: 12, 7: 4}


def test_accumulated_micro_batches_are_one_measurement(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    run(
        model_folder,
        pairs_file,
        tmp_path,
        PreferenceMetrics(),
        max_steps=3,
        accumulate_grad_batches=3,
        val_check_interval=1.0,
    )
    assert curve(tmp_path, "data/pairs/train") == {0: 12, 1: 12, 2: 9}  # 33 pairs in micro-batches of 4


def test_training_displacement_costs_no_second_forward(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    calls = {"policy": 0, "reference": 0}

    class Count(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            for name, model in (("policy", pl_module.policy), ("reference", pl_module.reference.frozen)):
                model.register_forward_hook(lambda *_, n=name: calls.__setitem__(n, calls[n] + 1))

    run(model_folder, pairs_file, tmp_path, Count(), PreferenceMetrics(), Displacement(), limit_val_batches=0)
    assert calls == {"policy": 6, "reference": 6}


def test_displacement_of_a_reference_free_objective_has_the_same_zero(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    run(model_folder, pairs_file, tmp_path, ValidateEnds(), Displacement(), objective=SimPO())
    assert curve(tmp_path, "displacement/chosen/train")[0] == 0.0
    assert curve(tmp_path, "displacement/chosen/val")[0] == 0.0


def test_displacement_without_a_reference_is_refused(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    module = PreferenceModule(CausalLM(str(model_folder)), SimPO(), NoReference())
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[Displacement()], default_root_dir=tmp_path)
    with pytest.raises(ConfigError, match="remove the callback, or set model.reference"):
        trainer.fit(module, PreferenceData(str(pairs_file)))


def test_the_run_closes_with_sentences(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(
        model_folder,
        pairs_file,
        tmp_path,
        ValidateEnds(),
        Displacement(),
        MassShift(),
        max_epochs=4,
        max_steps=-1,
    )
    said = capsys.readouterr().out
    change = list(curve(tmp_path, "displacement/chosen/val").values())[-1]
    assert f"chosen log-probability {'fell' if change < 0 else 'rose'} by {abs(change):.1f} nats" in said
    assert "Of the first response token, mass moved to" in said


def test_mass_shift_keeps_its_start_through_a_checkpoint() -> None:
    shift = MassShift()
    shift.load_state_dict({"before": torch.tensor([0.5, 0.5]), "named": [1]})
    assert shift.state_dict()["before"].tolist() == [0.5, 0.5]
    assert shift.state_dict()["named"] == [1]


def test_mass_is_measured_on_so_many_batches(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    calls = []
    shift = MassShift(max_batches=2)
    original = shift.on_validation_batch_end

    def count(trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, *args: Any) -> None:
        original(trainer, module, outputs, batch, batch_idx, *args)
        calls.append(0.0 if shift._sum is None else float(shift._sum[-1]))

    shift.on_validation_batch_end = count  # type: ignore[method-assign]
    run(model_folder, pairs_file, tmp_path, ValidateEnds(), shift, max_steps=1)
    assert calls[:3] == [3.0, 6.0, 6.0], "7 pairs in batches of 3, of which two are measured"


def test_ends_are_validated_once(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    class Count(pl.Callback):
        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append(trainer.global_step)

    run(model_folder, pairs_file, tmp_path, ValidateEnds(), Count(), max_steps=6, val_check_interval=3)
    assert seen == [0, 3, 6]


def test_the_first_metrics_of_a_resumed_run_are_over_whole_steps(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"accumulate_grad_batches": 3, "val_check_interval": 1.0, "max_steps": -1}
    first, _ = run(model_folder, pairs_file, tmp_path / "a", PreferenceMetrics(), max_epochs=1, **options)
    first.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = str(tmp_path / "x.ckpt")
    run(model_folder, pairs_file, tmp_path / "b", PreferenceMetrics(), max_epochs=2, ckpt_path=checkpoint, **options)
    assert curve(tmp_path / "b", "data/pairs/train") == {3: 12, 4: 12, 5: 9}


def test_mass_curves_begin_before_training(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    run(model_folder, pairs_file, tmp_path, ValidateEnds(), MassShift(), max_epochs=4, max_steps=-1)
    with (tmp_path / "metrics.csv").open() as file:
        tags = [tag for tag in next(csv.reader(file)) if tag.startswith("mass/")]
    assert tags
    for tag in tags:
        values = curve(tmp_path, tag)
        assert min(values) == 0
        assert all(0 <= p <= 1 for p in values.values())
    assert max(abs(list(curve(tmp_path, tag).values())[-1] - curve(tmp_path, tag)[0]) for tag in tags) >= 0.01


def test_tensorboard_holds_scalars_layout_and_escaped_text(model_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugin_util import markdown_to_safe_html

    hostile = "![x](http://example.org/a.png) <script>alert(1)</script>"
    path = tmp_path / "pairs.jsonl"
    row = '{"prompt": "p%d", "chosen": "%s", "rejected": "no"}\n'
    path.write_text("".join(row % (i, hostile) for i in range(20)))
    run(
        model_folder,
        path,
        tmp_path,
        ValidateEnds(),
        Displacement(),
        PreferenceMetrics(),
        MovedRows(2),
        Dashboard(),
    )
    events = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    assert {"loss/train", "logps/chosen/val", "displacement/chosen/val", "rewards/margins/val"} <= set(tags["scalars"])
    layout = b"".join(t.tensor_proto.string_val[0] for t in events.Tensors("custom_scalars__config__"))
    assert layout.index(b"logps/chosen/val") < layout.index(b"loss/train"), "log-probabilities come first"
    text = events.Tensors("displacement/fell_most/val/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert text.count("**row ") == 2
    shown = markdown_to_safe_html(text)  # what TensorBoard's own page shows
    assert "&lt;script&gt;alert(1)" in shown
    assert "![x](http://example.org/a.png)" in shown
    assert "<script" not in shown
    assert "<img" not in shown
