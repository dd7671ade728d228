"""References that are kept on disk or that move; displacement keeps its zero with each of them."""

import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from callbacks import Displacement, PreferenceMetrics, ValidateEnds
from lit_pref.batch import collate
from lit_pref.data.datamodule import PreferenceData
from lit_pref.errors import ConfigError
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from lit_pref.references import CachedModel, FrozenModel, MovingModel, Reference
from objectives import DPO, Objective, SimPO
from objectives.ld_dpo import LengthDesensitized


def fit(folder: Path, pairs: Path, root: Path, reference: Reference, **options: Any) -> PreferenceModule:
    objective: Objective = options.pop("objective", DPO())
    ckpt_path = options.pop("ckpt_path", None)
    module = PreferenceModule(
        CausalLM(str(folder)), objective, reference, lambda parameters: torch.optim.SGD(parameters, lr=0.5)
    )
    trainer = pl.Trainer(
        **{"max_epochs": 2, **options},
        accelerator="cpu",
        callbacks=[ValidateEnds(), PreferenceMetrics(), Displacement()],
        logger=CSVLogger(root, name="", version=""),
        log_every_n_steps=1,
        default_root_dir=root,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, PreferenceData(str(pairs), batch_size=4, val_size=7, val_batch_size=5), ckpt_path=ckpt_path)
    return module


def scalars(root: Path) -> dict[tuple[str, str], float]:
    with (root / "metrics.csv").open() as file:
        return {
            (row["step"], tag): float(value)
            for row in csv.DictReader(file)
            for tag, value in row.items()
            if value and tag != "step"
        }


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# --- kept on disk -------------------------------------------------------------------------------------------------


def test_a_cached_reference_trains_as_the_frozen_one(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    frozen = fit(model_folder, pairs_file, tmp_path / "a", FrozenModel())
    cached = fit(model_folder, pairs_file, tmp_path / "b", CachedModel(cache_dir=str(tmp_path / "cache")))
    torch.testing.assert_close(weights(frozen.policy), weights(cached.policy), atol=1e-5, rtol=1e-5)
    one, other = scalars(tmp_path / "a"), scalars(tmp_path / "b")
    assert one.keys() == other.keys()
    for key, value in one.items():
        if "share" not in key[1] and "accuracies" not in key[1]:  # at the start these are signs of rounding errors
            assert other[key] == pytest.approx(value, abs=2e-4, rel=1e-4), key
    assert not list(cached.reference.parameters()), "no second model in memory"


def test_it_is_computed_once_and_again_for_other_weights_or_pairs(
    model_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    original = CachedModel._compute

    def count(self: CachedModel, trainer: Any, pairs: Any, batch_size: int) -> Any:
        computed.append(len(pairs))
        return original(self, trainer, pairs, batch_size)

    monkeypatch.setattr(CachedModel, "_compute", count)
    cache = str(tmp_path / "cache")
    fit(model_folder, pairs_file, tmp_path / "a", CachedModel(cache_dir=cache))
    fit(model_folder, pairs_file, tmp_path / "b", CachedModel(cache_dir=cache), objective=SimPO())
    assert computed == [40], "one table for training and validation pairs, shared by objectives"
    other = CausalLM(str(model_folder), weights="random", seed=3)
    fit(model_folder, pairs_file, tmp_path / "c", CachedModel(other, cache_dir=cache))
    assert computed == [40, 40]
    shorter = tmp_path / "shorter.jsonl"
    shorter.write_text("".join(pairs_file.read_text().splitlines(keepends=True)[:20]))
    fit(model_folder, shorter, tmp_path / "d", CachedModel(cache_dir=cache))
    assert computed == [40, 40, 20]


def test_a_damaged_table_is_computed_again(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    fit(model_folder, pairs_file, tmp_path / "a", CachedModel(cache_dir=str(cache)))
    (table,) = cache.glob("*.npy")
    content = table.read_bytes()
    table.write_bytes(content[:100])
    fit(model_folder, pairs_file, tmp_path / "b", CachedModel(cache_dir=str(cache)))
    assert table.read_bytes() == content


def test_fingerprints_tell_weights_apart(model_folder: Path, tmp_path: Path) -> None:
    plain = CausalLM(str(model_folder)).fingerprint()
    assert CausalLM(str(model_folder), dropout=True, gradient_checkpointing=True).fingerprint() == plain
    drawn = [CausalLM(str(model_folder), weights="random", seed=seed).fingerprint() for seed in (0, 1)]
    other = CausalLM(str(model_folder)).build_frozen()
    with torch.no_grad():
        next(other.parameters())[0, 0] += 1
    other.save_pretrained(tmp_path)
    assert len({plain, *drawn, CausalLM(str(tmp_path)).fingerprint()}) == 4


def test_what_a_cache_cannot_hold_is_refused(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)LengthDesensitized reads more of the reference .*FrozenModel"):
        fit(model_folder, pairs_file, tmp_path, CachedModel(), objective=LengthDesensitized(DPO()))


# --- moving -------------------------------------------------------------------------------------------------------


def test_the_reference_moves_by_alpha_every_n_steps(model_folder: Path) -> None:
    source = CausalLM(str(model_folder))
    reference, policy = MovingModel(alpha=0.25, every_n_steps=2), source.build()
    reference.build(source)
    start = weights(policy).clone()
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 1.0
    reference.after_step(policy, 1)
    assert torch.equal(weights(reference.moving), start)
    reference.after_step(policy, 2)
    torch.testing.assert_close(weights(reference.moving), start + 0.25)
    assert torch.equal(weights(reference.frozen), start)


def test_a_hard_update_at_every_step_keeps_the_loss_at_its_start(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    """alpha = 1 after each step: policy and reference agree whenever a loss is computed, yet displacement goes on."""
    fit(model_folder, pairs_file, tmp_path, MovingModel(alpha=1.0, every_n_steps=1))
    values = scalars(tmp_path)
    losses = [value for (_, tag), value in values.items() if tag == "loss/train"]
    assert losses == pytest.approx([0.693147] * len(losses), abs=1e-5)
    moved = [value for (_, tag), value in values.items() if tag == "displacement/chosen/val"]
    assert moved[0] == 0.0
    assert abs(moved[-1]) > 1e-3


def test_moving_weights_survive_a_checkpoint(
    model_folder: Path, pairs_file: Path, tmp_path: Path, random_pairs: Any
) -> None:
    options: dict[str, Any] = {"alpha": 0.5, "every_n_steps": 3}
    straight = fit(model_folder, pairs_file, tmp_path / "a", MovingModel(**options), max_epochs=2)
    half = fit(model_folder, pairs_file, tmp_path / "b", MovingModel(**options), max_epochs=1)
    half.trainer.save_checkpoint(tmp_path / "x.ckpt")
    stored = torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]
    assert any(key.startswith("reference.moving.") for key in stored)
    assert not any(key.startswith("reference.frozen.") for key in stored)
    resumed = fit(
        model_folder, pairs_file, tmp_path / "c", MovingModel(**options), max_epochs=2, ckpt_path=tmp_path / "x.ckpt"
    )
    assert torch.equal(weights(resumed.policy), weights(straight.policy))
    batch = collate(random_pairs(3))
    assert torch.equal(
        resumed.reference.score(resumed.policy, batch).chosen.logps,  # type: ignore[arg-type, union-attr]
        straight.reference.score(straight.policy, batch).chosen.logps,  # type: ignore[arg-type, union-attr]
    )


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 1.5}, {"every_n_steps": 0}])
def test_bad_numbers_of_a_moving_reference_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"model\.reference\.{next(iter(options))} is"):
        MovingModel(**options)
