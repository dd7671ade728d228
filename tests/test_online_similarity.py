"""Online similarity: the numbers of measuring, read off the training step, at no forward of its own."""

import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from callbacks import OnlineSimilarity, ValidateEnds
from callbacks.online_similarity import online_similarity
from lit_pref.batch import collate
from lit_pref.data.datamodule import PreferenceData
from lit_pref.errors import ConfigError
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from lit_pref.references import NoReference
from lit_pref.scoring import score
from lit_pref.similarity import Measuring
from objectives import PairScores, SimPO


def run(folder: Path, pairs: Path, root: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    module = PreferenceModule(CausalLM(str(folder)), SimPO(), NoReference(), lambda p: torch.optim.AdamW(p, lr=1e-3))
    trainer = pl.Trainer(
        **{"max_steps": 4, **options}, accelerator="cpu", callbacks=list(callbacks), default_root_dir=root,
        logger=CSVLogger(root, name="", version=""), log_every_n_steps=1, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, PreferenceData(str(pairs), batch_size=4, val_size=7, val_batch_size=3))
    return trainer


def curve(root: Path, tag: str) -> dict[int, float]:
    with (root / "metrics.csv").open() as file:
        return {int(row["step"]): float(row[tag]) for row in csv.DictReader(file) if row.get(tag)}


def test_of_ragged_pairs_it_is_what_measuring_gives(small_model: Any, random_pairs: Any) -> None:
    model, pairs = small_model(), random_pairs(9)
    with torch.no_grad():
        found = online_similarity(score(model, collate(pairs)))
    expected = Measuring(["ches", "ln_ches"])(model, pairs)
    torch.testing.assert_close(found["online"].double(), expected["ches"], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found["online_ln"].double(), expected["ln_ches"], rtol=1e-4, atol=1e-4)
    assert (expected["ches"] - expected["ln_ches"]).abs().min() > 0, "the two must differ, or one would do"


def test_the_first_step_is_measured_by_the_initial_model(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    rows: list[list[int]] = []

    class Rows(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            rows.append(batch.rows.tolist())

    trainer = run(model_folder, pairs_file, tmp_path, ValidateEnds(), OnlineSimilarity(), Rows())
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    start = CausalLM(str(model_folder)).build_frozen()
    measuring = Measuring(["ches", "ln_ches"])
    for stage, positions in (("train", rows[0]), ("val", data.val_positions)):
        expected = measuring(start, [data.train[position] for position in positions])
        values = {tag: curve(tmp_path, f"ches/{tag}/{stage}")[0] for tag in ("online", "online_ln", "online_ln_max")}
        assert values["online"] == pytest.approx(float(expected["ches"].mean()), rel=1e-4)
        assert values["online_ln"] == pytest.approx(float(expected["ln_ches"].mean()), rel=1e-4)
        assert values["online_ln_max"] == pytest.approx(float(expected["ln_ches"].max()), rel=1e-4)
    later = measuring(start, [data.train[row] for row in rows[3]])
    online = curve(tmp_path, "ches/online/train")
    assert list(online) == [0, 1, 2, 3]
    assert abs(online[3] - float(later["ches"].mean())) > 1e-3, "later steps are measured by later weights"


def test_it_costs_no_forward_and_changes_nothing(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    class Count(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            pl_module.policy.register_forward_hook(lambda *_: calls.append(1))

    weights = []
    for name, callbacks in (("a", []), ("b", [OnlineSimilarity()])):
        calls.clear()
        trainer = run(model_folder, pairs_file, tmp_path / name, Count(), *callbacks, limit_val_batches=0)
        assert len(calls) == 4
        weights.append(torch.cat([p.detach().flatten() for p in trainer.lightning_module.policy.parameters()]))  # type: ignore[union-attr, operator]
    assert torch.equal(*weights)


def test_scores_without_states_are_refused_in_words(make_scores: Any) -> None:
    scores = make_scores([-1.0], [-2.0])
    bare = PairScores(scores.chosen._replace(hidden_sums=None), scores.rejected)
    with pytest.raises(ConfigError, match=r"(?s)hidden_sums is None.*Fix: "):
        online_similarity(bare)
