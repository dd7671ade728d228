"""The module: exact steps whatever the batches, what is on and off, what is stored."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from lit_pref.adapters import LoRA
from lit_pref.batch import collate
from lit_pref.data.loading import make_loader
from lit_pref.errors import ConfigError, SetupError
from lit_pref.models import CausalLM, share_kept_by_rounding
from lit_pref.module import PreferenceModule
from lit_pref.order import PairBatches, Share
from lit_pref.references import AdaptersOff, FrozenModel, NoReference, Reference
from lit_pref.scoring import score
from objectives import DPO, Objective, SimPO


def make_module(folder: Path, objective: Objective | None = None, **options: Any) -> PreferenceModule:
    reference: Reference | None = options.pop("reference", None)
    return PreferenceModule(
        CausalLM(str(folder), **options), objective or DPO(), reference, lambda p: torch.optim.SGD(p, lr=0.5)
    )


def fit(module: PreferenceModule, pairs: Any, batch_size: int = 4, **options: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        **{"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False, **options},
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, make_loader(pairs, PairBatches(range(len(pairs)), batch_size), 0))
    return trainer


def weights(module: PreferenceModule) -> torch.Tensor:
    assert module.policy is not None
    return torch.cat([p.detach().flatten() for p in module.policy.parameters()])


def test_the_first_loss_is_ln_2(model_folder: Path, random_pairs: Any) -> None:
    module = make_module(model_folder)
    module.configure_model()
    losses = module.validation_step(collate(random_pairs(6)), 0)["output"].losses
    torch.testing.assert_close(losses, torch.full((6,), 2.0).log(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(1, 7), (2, 4), (3, 3)])
def test_accumulated_steps_equal_one_large_batch(
    batch_size: int, accumulate: int, model_folder: Path, random_pairs: Any
) -> None:
    """Seven pairs: trailing micro-batches and ragged ones weigh each pair the same."""
    pairs, whole, parts = random_pairs(7), make_module(model_folder), make_module(model_folder)
    fit(whole, pairs, batch_size=7)
    fit(parts, pairs, batch_size, accumulate_grad_batches=accumulate)
    torch.testing.assert_close(weights(whole), weights(parts), atol=1e-6, rtol=1e-5)


def test_a_trailing_group_is_divided_by_its_own_size(model_folder: Path, random_pairs: Any) -> None:
    """Five micro-batches in groups of four: the second step is that of the fifth pair alone."""
    pairs, grouped, apart = random_pairs(5), make_module(model_folder), make_module(model_folder)
    fit(grouped, pairs, 1, accumulate_grad_batches=4)

    class FourThenOne(PairBatches):
        def __iter__(self) -> Any:
            return iter([Share([0, 1, 2, 3], 4), Share([4], 1)])

    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(apart, make_loader(pairs, FourThenOne(range(5), 4), 0))
    torch.testing.assert_close(weights(grouped), weights(apart), atol=1e-6, rtol=1e-5)


def test_a_group_that_a_limit_cuts_short_is_divided_by_what_it_holds(model_folder: Path, random_pairs: Any) -> None:
    """Three of six micro-batches in groups of two: the second step is that of the third micro-batch alone."""
    pairs, limited, short = random_pairs(12), make_module(model_folder), make_module(model_folder)
    fit(limited, pairs, 2, accumulate_grad_batches=2, limit_train_batches=3)
    fit(short, pairs[:6], 2, accumulate_grad_batches=2)
    assert torch.equal(weights(limited), weights(short))


def test_the_schedule_advances_with_optimizer_steps(model_folder: Path, random_pairs: Any) -> None:
    module = make_module(model_folder)
    module.make_scheduler = lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=4)
    trainer = fit(module, random_pairs(8), 2, accumulate_grad_batches=2)
    assert trainer.global_step == 2
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5 * 0.75)


@pytest.mark.parametrize("adapters", [False, True])
def test_a_reference_has_no_dropout_even_where_the_policy_keeps_it(
    adapters: bool, small_config: Any, tmp_path: Path, random_pairs: Any
) -> None:
    small_config("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5).save_pretrained(tmp_path)
    lora = LoRA(r=2, target_modules=["c_attn"]) if adapters else None
    source = CausalLM(str(tmp_path), weights="random", dropout=True, lora=lora)
    reference: Reference = AdaptersOff() if adapters else FrozenModel()
    reference.build(source)
    policy, batch = source.build(), collate(random_pairs(3))
    first, second = (reference.score(policy, batch) for _ in range(2))
    assert torch.equal(first.chosen.logps, second.chosen.logps)  # type: ignore[union-attr]
    assert policy.training


def test_fillers_weigh_nothing(model_folder: Path, random_pairs: Any) -> None:
    pairs, alone, filled = random_pairs(3), make_module(model_folder), make_module(model_folder)

    class Filled(PairBatches):
        def __iter__(self) -> Any:
            return iter([Share([0, 1, 2, 0], 3)])

    fit(alone, pairs, 3)
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(filled, make_loader(pairs, Filled(range(3), 3), 0))
    torch.testing.assert_close(weights(alone), weights(filled), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("keep", [False, True])
def test_dropout_is_off_unless_asked_for(keep: bool, small_config: Any, tokenizer: Any, tmp_path: Path) -> None:
    config = small_config("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    config.save_pretrained(tmp_path)
    model = CausalLM(str(tmp_path), weights="random", dropout=keep).build()
    assert model.training
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == ({0.5} if keep else {0.0})
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(model(ids).logits, model(ids).logits) is not keep


def test_attention_dropout_that_is_no_module_is_off_too(small_config: Any, tmp_path: Path) -> None:
    small_config("llama", attention_dropout=0.5).save_pretrained(tmp_path)
    model = CausalLM(str(tmp_path), weights="random").build()
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(model(ids).logits, model(ids).logits)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_checkpointing_is_really_on(checkpointing: bool, model_folder: Path, random_pairs: Any) -> None:
    """Every decoder layer runs once in forward, and once more in backward where it is checkpointed."""
    model: Any = CausalLM(str(model_folder), gradient_checkpointing=checkpointing).build()
    calls = []
    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    scores = score(model, collate(random_pairs(2)))
    assert len(calls) == 2
    scores.chosen.logps.sum().backward()
    assert len(calls) == (4 if checkpointing else 2)


def test_gradient_checkpointing_changes_no_gradient(model_folder: Path, random_pairs: Any) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = CausalLM(str(model_folder), gradient_checkpointing=checkpointing).build()
        score(model, collate(random_pairs(3))).chosen.logps.sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_weights_are_float32_whatever_the_folder_holds(model_folder: Path, tmp_path: Path) -> None:
    CausalLM(str(model_folder), dtype="bfloat16").build().save_pretrained(tmp_path)
    assert {p.dtype for p in CausalLM(str(tmp_path)).build().parameters()} == {torch.float32}


def test_learning_rates_that_bfloat16_rounds_away_are_noticed(
    model_folder: Path, capsys: pytest.CaptureFixture[str], random_pairs: Any
) -> None:
    weight = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        weight.weight.fill_(0.02)
    for rate in (1e-6, 5e-5, 6.2e-5, 1e-3):  # half a unit in the last place of 0.02 is 6.1e-5
        changed = (weight.weight - rate).item() != weight.weight.item()
        assert share_kept_by_rounding(weight, rate) == (0.0 if changed else 1.0)
    module = PreferenceModule(
        CausalLM(str(model_folder), dtype="bfloat16"),
        DPO(),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-7),
    )
    fit(module, random_pairs(2))
    assert "too large for a learning rate of 1e-07 to change them" in capsys.readouterr().out


def test_random_weights_come_from_the_seed_and_leave_global_random_state_alone(model_folder: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (CausalLM(str(model_folder), weights="random", seed=s).build() for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a.get_output_embeddings().weight, b.get_output_embeddings().weight)  # type: ignore[union-attr]
    assert not torch.equal(a.get_output_embeddings().weight, c.get_output_embeddings().weight)  # type: ignore[union-attr]


def test_config_values_are_replaced_or_refused(model_folder: Path) -> None:
    model: Any = CausalLM(str(model_folder), weights="random", config={"num_hidden_layers": 1}).build()
    assert len(model.model.layers) == 1
    with pytest.raises(ConfigError, match=r"model\.policy\.config\.layers"):
        CausalLM(str(model_folder), config={"layers": 1}).build()


def test_a_missing_model_is_said_in_words() -> None:
    with pytest.raises(SetupError, match="there is no such folder"):
        CausalLM("./nowhere").build()


# --- references ---------------------------------------------------------------------------------------------------


def test_the_frozen_reference_stays_and_the_policy_moves(model_folder: Path, random_pairs: Any) -> None:
    module = make_module(model_folder)
    module.configure_model()
    assert isinstance(module.reference, FrozenModel)
    start = weights(module).clone()
    fit(module, random_pairs(8))
    frozen = torch.cat([p.flatten() for p in module.reference.frozen.parameters()])  # type: ignore[union-attr]
    assert torch.equal(frozen, start)
    assert not torch.equal(weights(module), start)
    assert not any(p.requires_grad for p in module.reference.parameters())


def test_adapters_off_is_the_frozen_model(model_folder: Path, random_pairs: Any) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    module = make_module(model_folder, lora=LoRA(r=4), reference=AdaptersOff())
    fit(module, random_pairs(8))
    batch = collate(random_pairs(5, seed=1))
    frozen = FrozenModel()
    frozen.build(CausalLM(str(model_folder)))
    policy, off = module(batch), module.reference.score(module.policy, batch)  # type: ignore[arg-type]
    expected = frozen.score(nn.Identity(), batch)
    torch.testing.assert_close(off.chosen.logps, expected.chosen.logps, atol=1e-5, rtol=1e-6)  # type: ignore[union-attr]
    assert (policy.chosen.logps - expected.chosen.logps).abs().max() > 1e-3, "training must have moved the adapters"
    assert module.policy.training  # type: ignore[union-attr]


def test_adapters_train_with_gradient_checkpointing(model_folder: Path, random_pairs: Any) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    model = CausalLM(str(model_folder), lora=LoRA(r=4), gradient_checkpointing=True).build()
    score(model, collate(random_pairs(2))).chosen.logps.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_adapters_off_needs_adapters(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="no adapters to switch off"):
        make_module(model_folder, reference=AdaptersOff()).configure_model()


def test_no_reference_trains_reference_free_objectives(model_folder: Path, random_pairs: Any) -> None:
    module = make_module(model_folder, SimPO(), reference=NoReference())
    module.configure_model()
    start = weights(module).clone()
    fit(module, random_pairs(8))
    assert not torch.equal(weights(module), start)
    with pytest.raises(ConfigError, match=r"DPO compares with a reference, but model\.reference is NoReference"):
        fit(make_module(model_folder, DPO(), reference=NoReference()), random_pairs(4))


def test_the_reference_is_scored_in_training_only_where_it_is_needed(model_folder: Path, random_pairs: Any) -> None:
    for objective, watch, scored in ((DPO(), False, True), (SimPO(), False, False), (SimPO(), True, True)):
        module = make_module(model_folder, objective)
        module.watch_reference = watch
        seen: list[Any] = []

        class Watch(pl.Callback):
            def on_train_batch_end(self, trainer: Any, m: Any, outputs: Any, *args: Any) -> None:
                seen.append(outputs["reference"])  # noqa: B023

        fit(module, random_pairs(2), callbacks=[Watch()])
        assert (seen[0] is not None) is scored


# --- checkpoints --------------------------------------------------------------------------------------------------


def test_checkpoints_hold_the_policy_alone_and_load_strictly(
    model_folder: Path, random_pairs: Any, tmp_path: Path
) -> None:
    module = make_module(model_folder)
    trainer = fit(module, random_pairs(8))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    stored = torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]
    assert stored
    assert all(key.startswith("policy.") for key in stored)
    other = make_module(model_folder)
    other.configure_model()
    other.load_state_dict(stored)
    assert torch.equal(weights(other), weights(module))
    stored.pop(next(iter(stored)))
    with pytest.raises(ConfigError, match="does not fit the model: Missing key"):
        other.load_state_dict(stored)


def test_training_continues_from_an_epoch_checkpoint_bitwise(
    model_folder: Path, random_pairs: Any, tmp_path: Path
) -> None:
    pairs, straight, first, second = random_pairs(10), *(make_module(model_folder) for _ in range(3))
    fit(straight, pairs, max_epochs=2)
    fit(first, pairs, max_epochs=1).save_checkpoint(tmp_path / "x.ckpt")
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(second, make_loader(pairs, PairBatches(range(10), 4), 0), ckpt_path=tmp_path / "x.ckpt")
    assert torch.equal(weights(second), weights(straight))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fused_optimizers_and_clipping_go_together(precision: str, model_folder: Path, random_pairs: Any) -> None:
    """The default is fused; of it, Lightning refuses to clip gradients where precision is mixed."""
    module = PreferenceModule(CausalLM(str(model_folder)), DPO(beta=0.1))
    trainer = fit(module, random_pairs(8), gradient_clip_val=1.0, precision=precision)
    assert trainer.global_step > 0
    assert module.optimizers(use_pl_optimizer=False).param_groups[0]["fused"]  # type: ignore[union-attr]
