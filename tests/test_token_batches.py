"""Calls by tokens: the same steps, dealt out to other calls, whatever their lengths and however many processes."""

import copy
import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import SingleDeviceStrategy

from callbacks import LastCheckpoint, MassShift, MovedRows, ObjectiveWeights, PreferenceMetrics, ValidateEnds
from lit_pref.data.datamodule import PreferenceData
from lit_pref.data.demands import check_uncoupled
from lit_pref.errors import ConfigError
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from lit_pref.order import PairBatches, pairs_per_step
from lit_pref.token_batches import NeighbourBatches, TokenBatches, calls_a_step, dealt, neighbours
from objectives import (
    AOT,
    BCO,
    CPO,
    DPO,
    KTO,
    RPO,
    SFT,
    DisentanglementBand,
    Objective,
    WeightedSum,
)
from tests.test_distributed import curves
from tests.test_distributed import fit as fit_in_processes
from tests.test_objectives import EACH, inputs

WORLDS = [1, 2, 3, 4]


def random_lengths(count: int, seed: int = 0, longest: int = 90) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, generator=generator).pow(3) * longest + 3).long().tolist()


def counted(batches: PairBatches) -> list[list[int]]:
    """Of each call of one process, the pairs that count."""
    return [share.positions[: share.counted] for share in batches]


def steps_of(world: int, calls: int | None, **options: Any) -> list[set[int]]:
    """The pairs of each optimizer step, over all processes; without a number of calls, as without the option."""
    if calls is None:
        ranks = [counted(PairBatches(rank=rank, world_size=world, **options)) for rank in range(world)]
        calls = 1
    else:
        ranks = [counted(TokenBatches(rank=rank, world_size=world, **options)) for rank in range(world)]
    each = [[p for rank in ranks for p in rank[i]] for i in range(len(ranks[0]))]
    return [{p for call in each[i : i + calls] for p in call} for i in range(0, len(each), calls)]


# --- dealing ------------------------------------------------------------------------------------------------------


def test_the_longest_are_dealt_out_first_to_who_has_least() -> None:
    assert dealt([2, 3, 7, 5, 4], 2) == [[1, 2], [0, 3, 4]]
    assert dealt([5, 5], 3) == [[0], [1], []]


def test_as_many_calls_as_the_step_that_needs_most() -> None:
    assert calls_a_step([[1, 1, 1, 1]], 4) == 1
    assert calls_a_step([[1, 1, 1, 1], [4, 3, 1]], 4) == 2
    assert calls_a_step([[3, 3, 3, 3]], 4) == 4
    assert calls_a_step([[3, 3, 3, 3]], 4, processes=2) == 2
    assert calls_a_step([[9, 1, 1]], 4) == 2, "a longer pair has a call of its own, and no other in it"
    assert calls_a_step([], 4) == 1


@pytest.mark.parametrize("seed", range(5))
def test_one_call_fewer_would_not_do(seed: int) -> None:
    lengths = [random_lengths(12, seed * 10 + i) for i in range(6)]
    calls = calls_a_step(lengths, 100)
    fewer = [dealt(step, max(calls - 1, 1)) for step in lengths]
    over = [
        bins for step, found in zip(lengths, fewer, strict=True) for bins in found
        if len(bins) > 1 and sum(step[p] for p in bins) > 100
    ]  # fmt: skip
    assert calls == 1 or over


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length", [None, 41, 130])
def test_steps_are_those_without_the_option_and_calls_keep_to_the_budget(
    world: int, seed: int, length: int | None
) -> None:
    lengths = random_lengths(70, seed)
    positions = [p for p in range(70) if p % 5]
    options: dict[str, Any] = {
        "positions": positions, "batch_size": 12 // world, "shuffle_seed": seed, "length": length,
    }  # fmt: skip
    batches = [TokenBatches(rank=r, world_size=world, lengths=lengths, most=100, **options) for r in range(world)]
    assert len({len(b) for b in batches}) == len({b.calls for b in batches}) == 1, "equally many calls on each process"
    for rank in batches:
        for pairs in counted(rank):
            assert len(pairs) < 2 or sum(lengths[p] for p in pairs) <= 100
    first = batches[0]
    without = PairBatches(world_size=world, **options)
    assert steps_of(world, first.calls, lengths=lengths, most=100, **options) == steps_of(world, None, **options)
    assert sum(first.pair_counts) == sum(without.pair_counts) == (length or 56)
    assert len(first) == len(without) * first.calls
    assert [pairs_per_step(first.pair_counts, i, first.calls) for i in range(0, len(first), first.calls)] == (
        without.pair_counts
    )
    if length is None:
        assert sorted(p for rank in batches for pairs in counted(rank) for p in pairs) == positions


def test_a_long_pair_is_alone_and_an_empty_call_reads_what_does_not_count() -> None:
    assert list(TokenBatches(range(5), [500, 1, 1, 1, 400], 100, 3)) == [([0], 1), ([1, 2], 2), ([4], 1), ([3], 1)]
    ragged = TokenBatches(range(4), [60, 70, 80, 90], 100, 3)
    assert ragged.calls == 3
    assert list(ragged)[3:] == [([0], 0), ([0], 0), ([3], 1)], "what counts comes last, for who shows the last loss"
    thirds = [list(TokenBatches([0, 1], [9, 8], 9, 1, rank=rank, world_size=3)) for rank in range(3)]
    assert thirds == [[([1], 0)], [([0], 1)], [([1], 1)]]


def test_the_order_of_calls_depends_on_its_arguments_alone() -> None:
    def made(**changes: Any) -> list[list[int]]:
        options = {"most": 100, "batch_size": 8, "shuffle_seed": 1, "epoch": 0, **changes}
        return counted(TokenBatches(range(60), random_lengths(60), **options))

    torch.manual_seed(5)
    assert made() == made()
    for change in ({"most": 150}, {"batch_size": 4}, {"shuffle_seed": 2}, {"epoch": 1}):
        assert made(**change) != made()
    later = TokenBatches(range(60), random_lengths(60), 100, 8, 1)
    later.set_epoch(3)
    assert counted(later) == made(epoch=3)


def test_a_restart_goes_on_at_its_call_and_is_of_the_same_calls() -> None:
    batches = TokenBatches(range(60), random_lengths(60), 100, 8, 1)
    whole = list(batches)
    batches.start = 7
    assert list(batches) == whole[7:]
    assert list(batches) == whole
    keys = {
        TokenBatches(range(60), random_lengths(60), most, 8, seed, 0, world).key
        for most in (100, 150) for seed in (1, 2) for world in (1, 2)
    }  # fmt: skip
    assert len({*keys, PairBatches(range(60), 8, 1).key}) == 9


@pytest.mark.parametrize("world", WORLDS)
def test_neighbours_share_calls_in_the_order_of_the_data(world: int) -> None:
    lengths = random_lengths(50)
    ranks = [NeighbourBatches(range(3, 50), lengths, 100, rank, world) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    calls = [pairs for call in zip(*map(counted, ranks), strict=True) for pairs in call]
    assert [p for pairs in calls for p in pairs] == list(range(3, 50))
    full = [sum(lengths[p] for p in pairs) for pairs in calls]
    assert all(total <= 100 or len(pairs) == 1 for total, pairs in zip(full, calls, strict=True))
    assert all(total + lengths[after[0]] > 100 for total, after in zip(full, calls[1:], strict=False) if after)
    assert ranks[0].pair_counts == [sum(map(len, call)) for call in zip(*map(counted, ranks), strict=True)]


def test_neighbours_of_nothing() -> None:
    assert neighbours([], 5) == []
    assert neighbours([9, 1, 4, 1], 5) == [[0], [1, 2], [3]]
    assert list(NeighbourBatches([], [], 5)) == []


# --- training -----------------------------------------------------------------------------------------------------

BUDGET = 200


@pytest.fixture(scope="module")
def ragged_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 rows, most of them short, some long, one longer than the budget."""
    path = tmp_path_factory.mktemp("ragged") / "pairs.jsonl"
    words = [1 + length // 3 for length in random_lengths(42, 5)]
    words[7] = 90
    rows = [
        {"prompt": f"Number {i}?", "chosen": " yes" * count, "rejected": " no no" * (1 + count // 2)}
        for i, count in enumerate(words)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Watch(pl.Callback):
    """What each step was of, and where validations came."""

    def __init__(self) -> None:
        self.steps: list[set[int]] = []
        self.rates: list[float] = []
        self.validated: list[int] = []
        self.calls: list[int] = []
        self.tokens: list[int] = []
        self._pairs: set[int] = set()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._pairs |= set(batch.rows.tolist())
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return
        self.steps.append(self._pairs)
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.calls.append(trainer.accumulate_grad_batches)
        self._pairs = set()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.validated.append(trainer.global_step)


def make_data(path: Path, tokens: int | None, **options: Any) -> PreferenceData:
    return PreferenceData(str(path), **{"val_size": 9, "batch_size": 6, "seed": 3, **options}, tokens_per_batch=tokens)


def train(
    folder: Path, path: Path, root: Path, tokens: int | None, *callbacks: pl.Callback,
    objective: Objective | None = None, data: dict[str, Any] | None = None, ckpt_path: str | None = None,
    **options: Any,
) -> tuple[pl.Trainer, Watch, torch.Tensor]:  # fmt: skip
    def schedule(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=12)

    watch = Watch()
    trainer = pl.Trainer(
        **{"max_epochs": 2, "reload_dataloaders_every_n_epochs": 1, "num_sanity_val_steps": 0, **options},
        accelerator="cpu", logger=False, default_root_dir=root, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, callbacks=[watch, *callbacks],
        enable_checkpointing=any(isinstance(callback, LastCheckpoint) for callback in callbacks),
    )  # fmt: skip
    module = PreferenceModule(
        CausalLM(str(folder)), objective or DPO(), None, lambda p: torch.optim.SGD(p, lr=0.5), schedule
    )
    trainer.fit(module, datamodule=make_data(path, tokens, **(data or {})), ckpt_path=ckpt_path)
    assert module.policy is not None
    return trainer, watch, torch.cat([p.detach().flatten() for p in module.policy.parameters()])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate_grad_batches": 2},
        {"accumulate_grad_batches": 4},
        {"max_steps": 3},
        {"max_steps": 4, "accumulate_grad_batches": 2, "max_epochs": -1},
        {"limit_train_batches": 3, "accumulate_grad_batches": 2},
        {"limit_train_batches": 0.5},
        {"val_check_interval": 2},
        {"val_check_interval": 0.5, "limit_train_batches": 5, "accumulate_grad_batches": 2},
        {"limit_val_batches": 1},
    ],
    ids=str,
)
def test_steps_train_what_they_train_without_the_option(
    options: dict[str, Any], model_folder: Path, ragged_file: Path, tmp_path: Path
) -> None:
    """33 training pairs in batches of 6: gradients, rates, places of validation and its numbers are the same."""
    metrics = (PreferenceMetrics, ValidateEnds, ObjectiveWeights)
    whole, seen, weights = train(model_folder, ragged_file, tmp_path, None, *(m() for m in metrics), **options)
    parts, dealt_out, same = train(model_folder, ragged_file, tmp_path, BUDGET, *(m() for m in metrics), **options)
    assert dealt_out.steps == seen.steps
    assert dealt_out.rates == seen.rates
    assert parts.global_step == whole.global_step
    if options.get("val_check_interval") != 0.5:  # there a validation within a step is moved to its end
        assert dealt_out.validated == seen.validated
    assert max(dealt_out.calls) > 1
    torch.testing.assert_close(same, weights, atol=1e-6, rtol=1e-5)
    initial = torch.cat([p.flatten() for p in CausalLM(str(model_folder)).build().parameters()])
    assert (weights - initial).abs().max() > 1e-2, "the policy must move, or equality means nothing"
    names = [name for name in whole.callback_metrics if name.endswith("/val")]
    assert len(names) > 5
    for name in names:
        expected = float(whole.callback_metrics[name])
        assert float(parts.callback_metrics[name]) == pytest.approx(expected, abs=1e-5, rel=1e-5), name
    assert parts.accumulate_grad_batches == whole.accumulate_grad_batches, "the Trainer is left as it was found"
    for name in ("limit_train_batches", "limit_val_batches", "val_check_interval"):
        assert getattr(parts, name) == getattr(whole, name)


def test_epochs_take_calls_of_their_own_number(model_folder: Path, ragged_file: Path, tmp_path: Path) -> None:
    _, watch, _ = train(model_folder, ragged_file, tmp_path, BUDGET, max_epochs=4, limit_val_batches=0)
    assert len(watch.steps) == 24
    assert len(set(watch.calls)) > 1, "or the test of restarts says little"


@pytest.mark.parametrize("steps", [4, 6, 15])
def test_a_restart_comes_to_the_same_bits(steps: int, model_folder: Path, ragged_file: Path, tmp_path: Path) -> None:
    """Six steps an epoch: within the first, at its end, and later."""
    folder, path = model_folder, ragged_file
    whole, seen, weights = train(folder, path, tmp_path / "whole", BUDGET, max_epochs=4)
    train(folder, path, tmp_path / "first", BUDGET, LastCheckpoint(), max_epochs=4, max_steps=steps)
    last = next((tmp_path / "first").rglob("last.ckpt"))
    again, rest, same = train(
        folder, path, tmp_path / "again", BUDGET, LastCheckpoint(), max_epochs=4, ckpt_path=str(last)
    )
    assert rest.steps == seen.steps[steps:]
    assert rest.rates == seen.rates[steps:]
    assert rest.calls == seen.calls[steps:]
    assert torch.equal(same, weights)
    assert again.global_step == whole.global_step == 24


def test_other_calls_within_an_epoch_are_refused(model_folder: Path, ragged_file: Path, tmp_path: Path) -> None:
    train(model_folder, ragged_file, tmp_path, BUDGET, LastCheckpoint(), max_steps=4)
    last = str(next(tmp_path.rglob("last.ckpt")))
    for tokens in (None, 300):
        with pytest.raises(ConfigError, match="the checkpoint is from within an epoch"):
            train(model_folder, ragged_file, tmp_path / "other", tokens, ckpt_path=last)


class KeepTwenty(pl.Callback):
    """Prunes after the first epoch."""

    def __init__(self, match_steps: bool) -> None:
        self.match_steps = match_steps

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        rows = trainer.datamodule.train.rows[trainer.datamodule.train_positions][:20]
        trainer.datamodule.keep(rows.tolist(), self.match_steps)


@pytest.mark.parametrize("match_steps", [False, True])
def test_pruning_and_schedules_go_together(
    match_steps: bool, model_folder: Path, ragged_file: Path, tmp_path: Path
) -> None:
    options = {"limit_val_batches": 0, "max_epochs": 3}
    _, seen, weights = train(model_folder, ragged_file, tmp_path, None, KeepTwenty(match_steps), **options)
    _, dealt_out, same = train(model_folder, ragged_file, tmp_path, BUDGET, KeepTwenty(match_steps), **options)
    assert len(seen.steps) == (18 if match_steps else 6 + 2 * 4)
    assert dealt_out.steps == seen.steps
    assert dealt_out.rates == seen.rates
    torch.testing.assert_close(same, weights, atol=1e-6, rtol=1e-5)


def test_estimated_steps_and_the_share_done(model_folder: Path, ragged_file: Path, tmp_path: Path) -> None:
    class Ask(pl.Callback):
        found: list[tuple[float, float]] = []  # noqa: RUF012

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if not trainer.fit_loop.epoch_loop._should_accumulate():
                self.found.append((trainer.estimated_stepping_batches, module.objective.progress))

    found = []
    for tokens in (None, BUDGET):
        Ask.found = []
        train(model_folder, ragged_file, tmp_path, tokens, Ask(), limit_val_batches=0, accumulate_grad_batches=2)
        found.append(Ask.found)
    assert found[0] == found[1]
    assert found[0][0][0] == 6


# --- measuring ----------------------------------------------------------------------------------------------------


def loader_of(folder: Path, path: Path, root: Path, stage: str, tokens: int | None, **options: Any) -> Any:
    trainer = pl.Trainer(accelerator="cpu", logger=False, default_root_dir=root, enable_progress_bar=False, **options)
    trainer.strategy.connect(PreferenceModule(CausalLM(str(folder)), DPO()))
    data = make_data(path, tokens, tokenizer=str(folder), test_path=str(path))
    data.trainer = trainer
    data.prepare_data()
    data.setup(stage)
    return getattr(data, f"{stage}_dataloader")()


@pytest.mark.parametrize("stage", ["val", "test", "predict"])
@pytest.mark.parametrize("limit", [1.0, 1, 0.6])
def test_measured_are_the_pairs_that_are_measured_without_the_option(
    stage: str, limit: float, model_folder: Path, ragged_file: Path, tmp_path: Path
) -> None:
    options = {f"limit_{stage}_batches": limit}
    loaders = [loader_of(model_folder, ragged_file, tmp_path, stage, tokens, **options) for tokens in (None, BUDGET)]
    batches = [list(loader) for loader in loaders]
    whole = len(loaders[0])
    batches[0] = batches[0][: int(whole * limit) if isinstance(limit, float) else limit]
    without, rows = ([row for batch in found for row in batch.rows.tolist()] for found in batches)
    assert rows == without
    assert len(batches[1]) > 1 or limit != 1.0


def test_mass_is_of_the_pairs_that_it_is_of_without_the_option(
    model_folder: Path, ragged_file: Path, tmp_path: Path
) -> None:
    """Of the first batches of ``val_batch_size`` pairs, though calls of tokens end elsewhere."""
    found = []
    for tokens in (None, BUDGET, 10_000):
        mass = MassShift(max_batches=2)
        train(model_folder, ragged_file, tmp_path / str(tokens), tokens, mass, max_epochs=1,
              data={"val_batch_size": 3, "val_size": 9}, limit_train_batches=1)  # fmt: skip
        found.append(mass.before["first"])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-8)


def test_long_pairs_are_said_once(
    model_folder: Path, ragged_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(model_folder, ragged_file, tmp_path, 200, MovedRows())
    said = [line for line in capsys.readouterr().out.splitlines() if "tokens_per_batch" in line]
    assert len(said) == 1
    assert "data.tokens_per_batch is 200, but 1 of 33 training pairs is longer, up to 283 tokens; each" in said[0]


# --- what is refused ----------------------------------------------------------------------------------------------

COUPLED = [
    KTO(), AOT(), BCO(), CPO(), RPO(reduction="tokens"), SFT("tokens"), DisentanglementBand(DPO()),
    WeightedSum([DPO(), SFT("tokens")], [1, 1]),
]  # fmt: skip


@pytest.mark.parametrize("objective", COUPLED, ids=lambda o: type(o).__name__)
def test_objectives_that_couple_pairs_are_refused(
    objective: Objective, model_folder: Path, ragged_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"makes the loss of a pair depend on the other pairs.*\n  Fix: remove data"):
        train(model_folder, ragged_file, tmp_path, BUDGET, objective=objective)
    check_uncoupled(objective, None)


@EACH
def test_a_coupled_pair_has_another_loss_alone_and_no_other_pair_has(template: Objective, make_scores: Any) -> None:
    def losses(others: list[int], *pairs: int) -> torch.Tensor:
        scores = inputs(make_scores, list(pairs))[0], inputs(make_scores, [others[pair] for pair in pairs])[1]
        return copy.deepcopy(template)(*scores).losses

    # With the references of other pairs too: ranks of AOT and the KL of KTO tell nothing on every input.
    same = all(
        torch.allclose(torch.cat([losses(others, pair) for pair in range(4)]), losses(others, 0, 1, 2, 3))
        for others in ([0, 1, 2, 3], [3, 2, 1, 0])
    )
    assert template.couples_pairs is not same


def test_objectives_are_coupled_where_their_settings_say_so() -> None:
    for objective in (DPO(), BCO(shift="none"), SFT(), CPO(reduction="mean"), CPO(alpha=0), RPO()):
        check_uncoupled(objective, 1)
    assert not WeightedSum([DPO(), SFT()], [1, 1]).couples_pairs


def test_what_cannot_follow_is_refused(
    model_folder: Path, ragged_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(match: str, *callbacks: pl.Callback, **options: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            train(model_folder, ragged_file, tmp_path, BUDGET, *callbacks, **options)

    refused("reload_dataloaders_every_n_epochs is 0", reload_dataloaders_every_n_epochs=0)
    refused("check_val_every_n_epoch is null", check_val_every_n_epoch=None, val_check_interval=4)
    refused("GradientAccumulationScheduler", GradientAccumulationScheduler({0: 1}))
    with pytest.raises(ValueError, match=r"data\.tokens_per_batch is 0"):
        make_data(ragged_file, 0)
    # DeepSpeed, as far as the data can see it.
    monkeypatch.setattr(SingleDeviceStrategy, "handles_gradient_accumulation", True)
    refused("a step takes . model calls a process where .* is 1, but DeepSpeed counts the calls of a step itself")
    once = {"data": {"batch_size": 1}, "limit_val_batches": 0, "max_epochs": 1}
    assert set(train(model_folder, ragged_file, tmp_path, BUDGET, **once)[1].calls) == {1}


# --- processes ----------------------------------------------------------------------------------------------------


def test_two_processes_by_tokens_log_the_numbers_of_one_without(
    model_folder: Path, ragged_file: Path, tmp_path: Path
) -> None:
    """Every callback of configs/base.yaml, steps of 8 pairs, 35 of which are trained on: some calls hold no pair."""
    plain, tokens = ["--trainer.accumulate_grad_batches=2"], [f"--data.tokens_per_batch={BUDGET}"]
    one = curves(fit_in_processes(model_folder, ragged_file, tmp_path, "dpo", plain, devices=1, batch_size=4))
    two = curves(fit_in_processes(model_folder, ragged_file, tmp_path, "dpo", plain + tokens, 2, batch_size=2))
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert two[key] == pytest.approx(value, abs=2e-4, rel=1e-5), key
    moved = [value for (_, tag), value in one.items() if tag == "displacement/chosen/val"]
    assert abs(moved[-1]) > 0.1, "the policy must move, or equality means nothing"
