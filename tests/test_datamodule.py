"""The data module: splits, the cache, lost rows, kept rows, refusals."""

import json
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from lit_pref.batch import Pair
from lit_pref.data.cache import CachedPairs, write
from lit_pref.data.datamodule import PreferenceData
from lit_pref.data.rows import DataError
from lit_pref.data.tokenized import PairSource, content_of, tokenized
from lit_pref.errors import ConfigError
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from objectives import DPO, KTO, ODPO, SFT, Objective, WeightedSum
from objectives.wpo import WPO


def write_rows(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def numbered(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"p{i}", "chosen": f"yes {i}", "rejected": f"no {i}", **more} for i in range(count)]


def make(model_folder: Path, path: Path | str, root: Path, **options: Any) -> PreferenceData:
    data = PreferenceData(str(path), tokenizer=str(model_folder), **options)
    module = PreferenceModule(CausalLM(str(model_folder)), DPO())
    trainer = pl.Trainer(accelerator="cpu", logger=False, default_root_dir=root, max_epochs=1)
    trainer.strategy.connect(module)
    data.trainer = trainer
    return data


def ready(data: PreferenceData) -> PreferenceData:
    data.prepare_data()
    data.setup("fit")
    return data


def rows_of(loader: Any) -> list[int]:
    return [row for batch in loader for row in batch.rows.tolist()]


# --- splits and order ---------------------------------------------------------------------------------------------


def test_rows_keep_their_numbers_through_split_and_shuffle(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    data = ready(make(model_folder, pairs_file, tmp_path, val_size=0.25))
    train, val = rows_of(data.train_dataloader()), rows_of(data.val_dataloader())
    assert sorted(train + val) == list(range(40))
    assert len(val) == 10
    assert val == sorted(val)
    assert train != sorted(train)


def test_the_split_does_not_depend_on_the_seed_of_the_order(
    model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    a, b = (ready(make(model_folder, pairs_file, tmp_path, seed=s)) for s in (1, 2))
    assert rows_of(a.val_dataloader()) == rows_of(b.val_dataloader())
    assert rows_of(a.train_dataloader()) != rows_of(b.train_dataloader())


def test_epochs_differ_and_repeat(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    loader = ready(make(model_folder, pairs_file, tmp_path)).train_dataloader()
    orders = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        orders.append(rows_of(loader))
    assert orders[0] == orders[2] != orders[1]


def test_two_paths(model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    val = write_rows(
        tmp_path / "val.jsonl",
        *numbered(5),
        {"prompt": "Would you say number 3?", "chosen": "a", "rejected": "b"},
    )
    data = ready(make(model_folder, pairs_file, tmp_path, val_path=str(val)))
    assert len(rows_of(data.train_dataloader())) == 40
    assert rows_of(data.val_dataloader()) == [0, 1, 2, 3, 4, 5]
    assert "the prompts of 1 of 6 validation pairs are also trained on" in capsys.readouterr().out


def test_every_pair_is_predicted_in_order(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    data = ready(make(model_folder, pairs_file, tmp_path))
    assert rows_of(data.predict_dataloader()) == list(range(40))


def test_workers_change_nothing(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    a, b = (ready(make(model_folder, pairs_file, tmp_path, num_workers=n)) for n in (0, 2))
    assert rows_of(a.train_dataloader()) == rows_of(b.train_dataloader())


def test_testing_needs_test_data(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.test_path"):
        ready(make(model_folder, pairs_file, tmp_path)).test_dataloader()


# --- the cache ----------------------------------------------------------------------------------------------------


def test_a_cache_gives_back_what_was_written(tmp_path: Path) -> None:
    pairs = [Pair(3, [1, 2], [3], [4, 5], 0.5, -1.0, "name"), Pair(7, [9], [8], [7])]
    write(tmp_path / "x", pairs, {"content": "c"})
    cached = CachedPairs(tmp_path / "x")
    assert [cached[i] for i in range(2)] == pairs
    assert not cached.has_rewards
    assert list(tmp_path.iterdir()) == [tmp_path / "x"], "nothing is left beside it"


def folders(root: Path) -> set[Path]:
    return {path for path in root.iterdir() if path.is_dir()}


def test_tokenised_once_and_again_when_bytes_or_settings_change(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, path = tmp_path / "cache", write_rows(tmp_path / "a.jsonl", *numbered(3))
    first = tokenized(PairSource(str(path)), tokenizer, cache)
    with monkeypatch.context() as patched:
        patched.setattr("lit_pref.data.tokenized.read", lambda *_: pytest.fail("read again"))
        assert tokenized(PairSource(str(path)), tokenizer, cache).meta == first.meta
    tokenized(PairSource(str(path), max_length=99), tokenizer, cache)
    assert len(folders(cache)) == 2
    # Same size, same time: only the content differs.
    stat, text = path.stat(), path.read_text()
    path.write_text(text.replace("yes 1", "yes 9"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    again = tokenized(PairSource(str(path)), tokenizer, cache)
    assert "9" in tokenizer.decode(again[1].chosen)
    assert content_of(again) != content_of(first)
    assert len(folders(cache)) == 3


@pytest.mark.parametrize("name", ["tokens.bin", "bounds.bin", "meta.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_cache_is_noticed_and_built_again(
    name: str, damage: str, tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = PairSource(str(write_rows(tmp_path / "a.jsonl", *numbered(3))))
    first = tokenized(source, tokenizer, tmp_path / "cache")
    expected, file = [first[i] for i in range(3)], first.folder / name
    del first
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    {
        "flip": lambda: file.write_bytes(content),
        "cut": lambda: file.write_bytes(content[:-3]),
        "remove": file.unlink,
    }[damage]()
    again = tokenized(source, tokenizer, tmp_path / "cache")
    assert [again[i] for i in range(3)] == expected
    assert "tokenising again" in capsys.readouterr().out


def test_a_build_that_dies_leaves_no_cache(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = PairSource(str(write_rows(tmp_path / "a.jsonl", *numbered(3))))
    with monkeypatch.context() as patched:
        patched.setattr("lit_pref.encoding.Encoder.encode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tokenized(source, tokenizer, tmp_path / "cache")
    assert not folders(tmp_path / "cache")
    assert len(tokenized(source, tokenizer, tmp_path / "cache")) == 3


# --- rows that are lost -------------------------------------------------------------------------------------------

ODD = [
    *numbered(6),
    {"prompt": "p", "chosen": "", "rejected": "b"},
    {"prompt": "p", "chosen": "same", "rejected": "same"},
    {"prompt": "p" * 400, "chosen": "a", "rejected": "b"},
    {"prompt": "p", "chosen": "a" * 400 + "b", "rejected": "a" * 400 + "c"},
]


def test_lost_rows_add_up_and_are_listed(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "odd.jsonl", *ODD)
    for _ in range(2):  # the second time from the cache
        ready(make(model_folder, path, tmp_path / "run", on_bad_row="drop", max_length=100))
        said = capsys.readouterr().out
        assert "10 rows: 6 kept, 3 dropped" in said
        assert "1 refused (1 empty response)" in said
        listed = [json.loads(line) for line in (tmp_path / "run" / "bad_rows.jsonl").read_text().splitlines()]
        assert {(r["row"], r["case"]) for r in listed} == {
            (6, "empty-response"), (7, "identical-responses"), (8, "prompt-too-long"), (9, "equal-after-cutting"),
        }  # fmt: skip
        (tmp_path / "run" / "bad_rows.jsonl").unlink()


def test_refused_rows_stop_the_run_and_are_listed_all_the_same(model_folder: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "odd.jsonl", *ODD[:7])
    with pytest.raises(DataError, match="odd.jsonl:7") as caught:
        make(model_folder, path, tmp_path / "run").prepare_data()
    assert "6 of 7 rows are fine" in str(caught.value)
    assert "empty-response" in (tmp_path / "run" / "bad_rows.jsonl").read_text()


def test_many_prompts_that_are_too_long_stop_the_run(model_folder: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "long.jsonl", *numbered(6), ODD[8])
    with pytest.raises(
        DataError, match=r"1 of 7 prompts leave no room for a response in data.max_length=100"
    ) as caught:
        make(model_folder, path, tmp_path, max_length=100).prepare_data()
    assert "--data.on_bad_row=drop" in str(caught.value)
    enough = write_rows(tmp_path / "enough.jsonl", *numbered(120), ODD[8])
    assert len(ready(make(model_folder, enough, tmp_path, max_length=100)).train_positions) == 108


def test_a_batch_that_is_not_filled_is_said(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ready(make(model_folder, write_rows(tmp_path / "a.jsonl", *numbered(1)), tmp_path, val_size=0, batch_size=2))
    assert "1 training pairs do not fill a batch of 2: one step an epoch" in capsys.readouterr().out


def with_objective(data: PreferenceData, objective: Objective) -> PreferenceData:
    data.trainer.lightning_module.objective = objective  # type: ignore[union-attr]
    return data


def test_rewards_are_demanded_where_the_objective_needs_them(model_folder: Path, tmp_path: Path) -> None:
    rows = numbered(4, chosen_reward=2, rejected_reward=1.5)
    del rows[2]["rejected_reward"]
    data = make(model_folder, write_rows(tmp_path / "a.jsonl", *rows), tmp_path)
    with pytest.raises(DataError, match="ODPO needs annotated rewards, but row 2 has none"):
        ready(with_objective(data, ODPO()))
    rewarded = write_rows(tmp_path / "b.jsonl", *numbered(4, chosen_reward=2, rejected_reward=1.5))
    data = with_objective(make(model_folder, rewarded, tmp_path), ODPO())
    batch = next(iter(ready(data).train_dataloader()))
    assert batch.rewards is not None
    assert batch.rewards[:, 0].tolist() == [2.0, 1.5]


@pytest.mark.parametrize("objective", [ODPO(), WeightedSum([SFT(), ODPO()], [1, 1]), WPO(ODPO())], ids=str)
def test_rewards_that_break_an_objectives_rule_are_refused_naming_the_rows(
    objective: Objective, model_folder: Path, tmp_path: Path
) -> None:
    rows = numbered(6, chosen_reward=2, rejected_reward=1.5)
    rows[1]["rejected_reward"] = rows[4]["rejected_reward"] = 2
    data = make(model_folder, write_rows(tmp_path / "a.jsonl", *rows), tmp_path)
    with pytest.raises(
        DataError, match="ODPO needs every chosen_reward above rejected_reward, but rows 1, 4 have others"
    ) as caught:
        ready(with_objective(data, objective))
    assert "a chosen_reward of 2 and a rejected_reward of 2" in str(caught.value)


def test_mismatched_pairs_are_other_pairs_responses(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    data = ready(with_objective(make(model_folder, pairs_file, tmp_path, val_size=0, batch_size=3), KTO()))
    assert data.train is not None
    for batch in data.train_dataloader():
        assert batch.mismatched.rows.tolist() == batch.rows.tolist()
        for i, row in enumerate(batch.rows.tolist()):
            partner = data.train[(row + 1) % 40]
            expected = [*data.train[row].prompt, *partner.chosen]
            assert batch.mismatched.input_ids[i, : len(expected)].tolist() == expected
    with pytest.raises(ConfigError, match="KTO compares with the responses of other pairs"):
        ready(with_objective(make(model_folder, pairs_file, tmp_path, batch_size=1), KTO()))


# --- rows that are kept -------------------------------------------------------------------------------------------


def test_keep_changes_training_and_nothing_else(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    data = ready(make(model_folder, pairs_file, tmp_path, val_size=0.25))
    val = rows_of(data.val_dataloader())
    data.keep(list(range(20)))
    assert set(rows_of(data.train_dataloader())) == set(range(20)) - set(val)
    assert rows_of(data.val_dataloader()) == val
    with pytest.raises(DataError, match="none of the rows to keep is a training row"):
        data.keep(val)


def test_rows_kept_after_an_epoch_are_those_of_the_next(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    seen: dict[int, set[int]] = {}

    class KeepTwelve(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            seen.setdefault(trainer.current_epoch, set()).update(batch.rows.tolist())

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 0:
                trainer.datamodule.keep(sorted(seen[0])[:12])

    def fit(**options: Any) -> None:
        trainer = pl.Trainer(
            **options, accelerator="cpu", logger=False, max_epochs=3, callbacks=[KeepTwelve()],
            default_root_dir=tmp_path, enable_checkpointing=False, enable_progress_bar=False, num_sanity_val_steps=0,
        )  # fmt: skip
        module = PreferenceModule(CausalLM(str(model_folder)), DPO())
        trainer.fit(module, PreferenceData(str(pairs_file), val_size=0.25, batch_size=5))

    fit(reload_dataloaders_every_n_epochs=1)
    assert seen[1] == seen[2] == set(sorted(seen[0])[:12])
    with pytest.raises(ConfigError, match="reload_dataloaders_every_n_epochs to be 1"):
        fit()


def test_kept_rows_survive_in_the_state(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    data = ready(make(model_folder, pairs_file, tmp_path))
    assert data.state_dict() == {}
    data.keep([1, 2, 3])
    again = ready(make(model_folder, pairs_file, tmp_path))
    again.load_state_dict(data.state_dict())
    assert again.kept == data.kept != data.train_positions


def test_kept_rows_of_a_state_belong_to_one_data_set(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    data = ready(make(model_folder, pairs_file, tmp_path))
    data.keep([1, 2, 3])
    other = ready(make(model_folder, write_rows(tmp_path / "other.jsonl", *numbered(10)), tmp_path))
    other.load_state_dict(data.state_dict())
    assert other.kept == other.train_positions, "measuring other data is no continuation"
    other.trainer.state.fn = "fit"  # type: ignore[union-attr, assignment]
    with pytest.raises(DataError, match="the checkpoint: its rows were kept from data"):
        other.load_state_dict(data.state_dict())


def test_kept_rows_of_a_file_belong_to_one_data_set(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    data = ready(make(model_folder, pairs_file, tmp_path, val_size=0))
    assert data.train is not None
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({"data": content_of(data.train), "rows": [5, 6, 7]}))
    again = ready(make(model_folder, pairs_file, tmp_path, val_size=0, kept_rows=str(kept)))
    assert sorted(rows_of(again.train_dataloader())) == [5, 6, 7]
    other = write_rows(tmp_path / "other.jsonl", *numbered(10))
    with pytest.raises(DataError) as caught:
        ready(make(model_folder, other, tmp_path, kept_rows=str(kept)))
    assert content_of(data.train) in str(caught.value)
    assert "Nothing was trained" in str(caught.value)
    kept.write_text('{"rows": "all"}')
    with pytest.raises(DataError, match="not a file of kept rows"):
        ready(make(model_folder, pairs_file, tmp_path, kept_rows=str(kept)))


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"max_length": 0}, {"val_size": -1}, {"val_size": 2.5}], ids=str
)
def test_bad_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"data.{next(iter(options))} is"):
        PreferenceData("x.jsonl", **options)
