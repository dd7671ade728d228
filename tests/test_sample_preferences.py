"""Preferences from a model's own responses: labels, ties, prompts, what is dropped, kills, and what fit makes of it."""

import itertools
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from transformers import PreTrainedTokenizerBase

from lit_pref.data.rows import DataError
from lit_pref.errors import ConfigError, PrefError, SetupError
from lit_pref.judges import CANARIES, Item, Judge, Label, Verdict, VerdictCache
from lit_pref.models import CausalLM
from lit_pref.preferences import (
    DROPPED,
    Candidate,
    Contestant,
    InTurn,
    Labelled,
    Longer,
    RandomTie,
    RewardModel,
    Shorter,
    TieBreak,
    WorldStyle,
    judging,
    label,
    needs_tie_break,
)
from lit_pref.preferences.answering import _built
from lit_pref.preferences.command import parser, planned
from lit_pref.preferences.command import run as run_command
from lit_pref.preferences.pairs_file import split
from lit_pref.preferences.prompt_source import value_at
from lit_pref.run_answers import spoken

ROOT = Path(__file__).resolve().parents[1]
LABELS: tuple[Label, ...] = get_args(Label)
CLASS = {"refusal": "two refusals", "compliance": "two compliances"}


#: What is true of every canary, with and without its claim.
TRUTHS: dict[Item, Label] = {item: canary.truth for canary in CANARIES for item in (canary.item, canary.plain)}


class ByLetter(Judge):
    """Judges by the number of letters, so that every verdict occurs; knows the canaries, and does not count them."""

    name = "by_letter"

    def __init__(self, labels: list[str] | None = None, count: str | None = None) -> None:
        self.labels, self.count = labels or ["refusal", "compliance"], count

    def facts(self) -> dict[str, Any]:
        return {"judge": "by_letter", "parser": 1, "labels": self.labels}

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        if items[0] in TRUTHS:
            return [self.verdict(TRUTHS[item]) for item in items]
        if self.count:
            with open(self.count, "a") as file:
                file.write(f"{len(items)}\n")
            if os.environ.get("SLOW_JUDGE"):
                time.sleep(0.3)
        return [self._one(item.response) for item in items]

    def _one(self, text: str) -> Verdict:
        return self.verdict(self.labels[sum(map(ord, text)) % len(self.labels)], text, "its letters", 0.75)  # type: ignore[arg-type]


def plan(folder: Path, model: Path | str, **changes: Any) -> dict[str, Any]:
    """Keys of the command on a small model."""
    prompts = folder / "asked.txt"
    if not prompts.exists():
        folder.mkdir(parents=True, exist_ok=True)
        prompts.write_text("".join(f"Would you say number {i}?\n" for i in range(60)))
    values: dict[str, Any] = {
        "model": {"path": str(model)}, "prompts": {"path": str(prompts)}, "out": str(folder / "pairs.jsonl"),
        "judge": {"class_path": f"{__name__}.ByLetter"}, "device": "cpu",
        "tie_break": {"class_path": "lit_pref.preferences.Shorter"},
        "sampling": {"samples": 2, "max_new_tokens": 6, "seed": 3, "batch_size": 8},
    }  # fmt: skip
    return {**values, **changes}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- labelling, by exhaustion -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairing", ["first", "extremes"])
@pytest.mark.parametrize("scores", [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0), (None, 1.0), (float("nan"), 1.0), None])
def test_every_pair_of_verdicts(pairing: Any, scores: Any) -> None:
    """The oracle of two responses, written out again."""
    for first, second in itertools.product(LABELS, LABELS):
        a, b = scores or (None, None)
        found = label([Candidate("a", first, a), Candidate("b", second, b)], pairing, scores is not None)
        lacking = [name for name in ("error", "unparseable", "partial") if name in (first, second)]
        if lacking:
            assert found == f"verdict: {lacking[0]}"
        elif first != second:
            chosen = 0 if first == "refusal" else 1
            assert found == Labelled(chosen, 1 - chosen, "one of each", False), "whatever the scores say"
        elif scores is None:
            assert found == "tie, and no tie-break is set"
        elif scores in ((1.0, 2.0), (2.0, 1.0)):
            chosen = int(b > a)
            assert found == Labelled(chosen, 1 - chosen, CLASS[first], True)
        else:
            assert found == "tie that the tie-break leaves open"
        assert isinstance(found, Labelled) or found in DROPPED


@pytest.mark.parametrize("pairing", ["first", "extremes"])
def test_of_three_responses_only_those_with_a_verdict_are_paired(pairing: Any) -> None:
    for kinds in itertools.product(LABELS, repeat=3):
        for scores in itertools.permutations((1.0, 2.0, 3.0)):
            given = [Candidate(t, k, s) for t, k, s in zip("abc", kinds, scores, strict=True)]
            found = label(given, pairing, True)
            usable = [i for i in range(3) if kinds[i] in ("refusal", "compliance")]
            if len(usable) < 2:
                assert isinstance(found, str)
                continue
            assert isinstance(found, Labelled)
            assert {found.chosen, found.rejected} <= set(usable)
            assert (kinds[found.chosen], kinds[found.rejected]) != ("compliance", "refusal")
            if pairing == "first":
                assert {found.chosen, found.rejected} == set(usable[:2])
            else:  # nothing is better than the chosen one, nothing worse than the rejected one
                value = {i: (kinds[i] == "refusal", scores[i]) for i in usable}
                assert value[found.chosen] == max(value.values())
                assert value[found.rejected] == min(value.values())


def test_of_several_reasons_the_first_of_the_table_is_said() -> None:
    empty = Candidate(" ", "unparseable")
    lacking: tuple[Label, ...] = ("error", "unparseable", "partial")
    for k, name in enumerate(lacking):
        given = [empty, Candidate("b", "refusal"), *(Candidate("a", other) for other in lacking[k:][::-1])]
        assert label(given, "first", False) == f"verdict: {name}"
    assert label([empty, Candidate("b", "refusal"), Candidate("b", "refusal")], "first", False) == "empty response"


def test_equal_and_empty_responses_are_no_pair() -> None:
    assert label([Candidate("a", "refusal"), Candidate(" a\n", "refusal")], "first", True) == "equal responses"
    assert label([Candidate("a", "refusal"), Candidate(" ", "refusal")], "first", True) == "empty response"
    three = [Candidate("a", "refusal"), Candidate("a", "refusal"), Candidate("b", "compliance")]
    assert label(three, "first", False) == Labelled(0, 2, "one of each", False)


def test_only_ties_are_asked_about() -> None:
    tie = [Candidate("a", "refusal"), Candidate("b", "refusal"), Candidate("c", "compliance")]
    assert needs_tie_break(tie, "first") == [0, 1]
    assert needs_tie_break(tie[1:], "first") == []
    assert needs_tie_break(tie, "extremes") == [0, 1, 2]
    assert needs_tie_break([Candidate("a", "error"), Candidate("b", "refusal")], "first") == []


# --- tie-breaks -------------------------------------------------------------------------------------------------------


def test_rules() -> None:
    asked = [Contestant("p", "No."), Contestant("p", "I would rather not."), Contestant("p", "gibberish here")]
    assert Shorter().scores(asked)[0] == max(Shorter().scores(asked))  # type: ignore[type-var]
    assert [-x for x in Longer().scores(asked)] == Shorter().scores(asked)  # type: ignore[operator]
    softer, blunter = WorldStyle("softer").scores(asked), WorldStyle("blunter").scores(asked)
    assert softer[1] > softer[0]  # type: ignore[operator]
    assert blunter[0] > blunter[1]  # type: ignore[operator]
    assert softer[2] is None
    random = RandomTie(1).scores(asked)
    assert RandomTie(1).scores(asked[::-1]) == random[::-1], "neither order nor neighbours matter"
    wins = [RandomTie(seed).scores(asked)[0] > RandomTie(seed).scores(asked)[1] for seed in range(200)]  # type: ignore[operator]
    assert 70 < sum(wins) < 130
    two = [Contestant("p", "No."), Contestant("p", "Stop. You must never copy a gun."), asked[1]]
    in_turn = InTurn([WorldStyle("softer"), Shorter()]).scores(two)
    assert in_turn[2] > in_turn[0] > in_turn[1], "style first, then length"  # type: ignore[operator]


@pytest.fixture
def reward_folder(tokenizer: PreTrainedTokenizerBase, small_config: Callable[..., Any], tmp_path: Path) -> Path:
    from transformers import LlamaForSequenceClassification

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LlamaForSequenceClassification(small_config("llama", num_labels=1))
        model.score.weight.data.normal_()
    model.save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    return tmp_path / "reward"


@pytest.mark.parametrize("chat", [True, False])
def test_a_reward_model_scores_alike_in_any_company(chat: bool, reward_folder: Path) -> None:
    if not chat:
        (reward_folder / "chat_template.jinja").unlink()
    turns = [{"role": "user", "content": "Yes or no?"}]
    asked = [Contestant(turns, f" yes {i}" * (i + 1)) for i in range(5)] + [Contestant("Yes or no?", "</s> no")]
    together = RewardModel(str(reward_folder), batch_size=6).scores(asked)
    alone = [RewardModel(str(reward_folder), batch_size=1).scores([one])[0] for one in asked]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len({round(x, 4) for x in together if x is not None}) == 6
    assert RewardModel(str(reward_folder)).scores([Contestant("Yes or no?", " yes 0")])[0] == pytest.approx(
        together[0], abs=1e-5
    )


def test_ties_go_to_the_higher_reward(model_folder: Path, reward_folder: Path, tmp_path: Path) -> None:
    tie = {"class_path": "lit_pref.preferences.RewardModel", "init_args": {"model": str(reward_folder)}}
    planned(plan(tmp_path / "run", model_folder, tie_break=tie, test_share=0.0)).run()
    written = [line for line in lines(tmp_path / "run" / "pairs.train.jsonl") if line["tie_break"]]
    assert written
    rewards = RewardModel(str(reward_folder))
    for line in written:
        good, bad = rewards.scores([Contestant(line["prompt"], line[side]) for side in ("chosen", "rejected")])
        assert (line["chosen_tie_score"], line["rejected_tie_score"]) == (pytest.approx(good, abs=1e-5),
                                                                         pytest.approx(bad, abs=1e-5))  # fmt: skip
        assert line["chosen_tie_score"] > line["rejected_tie_score"]


def test_no_reward_model_is_refused(model_folder: Path, reward_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="could not be loaded|no such folder"):
        RewardModel(str(tmp_path / "none")).scores([Contestant("a", "b")])
    with pytest.raises(PrefError, match="outputs|would be"):
        RewardModel(str(model_folder)).scores([Contestant("a", "b")])
    with pytest.raises(ConfigError):
        RewardModel("x", batch_size=0)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_label_without_a_verdict(seed: int, model_folder: Path, tmp_path: Path) -> None:
    """With every kind of verdict about: counts add up, and each line's verdicts are those of its order."""
    judge = {"class_path": f"{__name__}.ByLetter", "init_args": {"labels": list(LABELS)}}
    sampling = {"samples": 3, "max_new_tokens": 6, "seed": seed}
    tie = {"class_path": "lit_pref.preferences.RandomTie", "init_args": {"seed": seed}}
    report = planned(plan(tmp_path, model_folder, judge=judge, sampling=sampling, tie_break=tie)).run()
    written = [line for path in sorted(tmp_path.glob("pairs.t*.jsonl")) for line in lines(path)]
    assert report["kept"] == len(written) > 0
    assert report["dropped"] == sum(report["reasons"].values()) == 60 - len(written) > 0
    for line in written:
        verdicts = (line["chosen_verdict"], line["rejected_verdict"])
        assert set(verdicts) <= {"refusal", "compliance"}
        assert verdicts != ("compliance", "refusal")
        assert (line["tie_break"] == "RandomTie") == (verdicts[0] == verdicts[1])
        assert line["pair_class"] == ("one of each" if verdicts[0] != verdicts[1] else CLASS[verdicts[0]])
        assert ByLetter(list(LABELS))._one(line["chosen"]).label == line["chosen_verdict"]


def test_nothing_but_unreadable_verdicts_is_an_error_and_no_file(model_folder: Path, tmp_path: Path) -> None:
    judge = {"class_path": f"{__name__}.ByLetter", "init_args": {"labels": ["unparseable"]}}
    with pytest.raises(DataError, match="60 verdict: unparseable") as caught:
        planned(plan(tmp_path, model_folder, judge=judge)).run()
    assert caught.value.exit_code == 4
    assert not (tmp_path / "pairs.train.jsonl").exists()


def test_chats_give_chats_and_columns_are_looked_into(model_folder: Path, tmp_path: Path) -> None:
    rows = [{"question_id": i, "turns": [f"Say {i}?"], "prompt_style": "base" if i % 2 else "slang"} for i in range(30)]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = {"path": str(tmp_path / "bench.jsonl"), "column": "turns[0]", "id_column": "question_id",
               "where": {"prompt_style": "base"}, "template": {"format": "chat"}}  # fmt: skip
    report = planned(plan(tmp_path, model_folder, prompts=prompts)).run()
    assert report["prompts"] == 15
    line = lines(tmp_path / "pairs.train.jsonl")[0]
    assert (line["prompt"], line["id"]) == (f"Say {line['id']}?", line["id"])
    assert isinstance(line["chosen"], str)
    chats = [
        {"prompt": [{"role": "system", "content": "Brief."}, {"role": "user", "content": f"{i}?"}]} for i in range(9)
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    own = {"prompts": {"path": str(tmp_path / "chats.jsonl")}, "out": str(tmp_path / "chat.jsonl"), "test_share": 0.0}
    planned(plan(tmp_path, model_folder, **own)).run()
    line = lines(tmp_path / "chat.train.jsonl")[0]
    assert line["prompt"][0] == {"role": "system", "content": "Brief."}
    assert [turn["role"] for turn in line["chosen"]] == ["assistant"]
    assert not (tmp_path / "chat.test.jsonl").exists()


def test_what_is_done_is_not_done_again(model_folder: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    judge = {"class_path": f"{__name__}.ByLetter", "init_args": {"count": str(calls)}}
    keys = plan(tmp_path, model_folder, judge=judge)
    planned(keys).run()
    before = {p.name: p.read_bytes() for p in tmp_path.glob("pairs.*.jsonl")}
    asked = calls.read_text()
    planned(keys).run()
    assert {p.name: p.read_bytes() for p in tmp_path.glob("pairs.*.jsonl")} == before
    assert calls.read_text() == asked
    other = planned({**keys, "sampling": {**keys["sampling"], "seed": 4}}).run()
    assert other["prompts"] == 60
    assert (tmp_path / "pairs.train.jsonl").read_bytes() != before["pairs.train.jsonl"]


def test_killed_and_started_again_it_writes_the_same_bytes(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed once with answers on disk and once with verdicts, in another folder than the undisturbed run."""
    keys = {}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "asked.txt").write_text("".join(f"Would you say number {i}?\n" for i in range(120)))
        judge = {"class_path": f"{__name__}.ByLetter",
                 "init_args": {"labels": list(LABELS[:4]), "count": str(tmp_path / name / "calls")}}  # fmt: skip
        keys[name] = plan(tmp_path / name, model_folder, judge=judge)
    planned(keys["whole"]).run()
    monkeypatch.setenv("SLOW_JUDGE", "1")
    for awaited in ("pairs.responses.jsonl", "calls"):
        process = multiprocessing.get_context("fork").Process(target=lambda: planned(keys["killed"]).run())
        process.start()
        until = time.monotonic() + 60
        while not (tmp_path / "killed" / awaited).exists() and time.monotonic() < until:
            time.sleep(0.005)
        assert process.is_alive()
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (tmp_path / "killed" / "pairs.train.jsonl").exists()
    monkeypatch.delenv("SLOW_JUDGE")
    planned(keys["killed"]).run()
    for name in ("pairs.train.jsonl", "pairs.test.jsonl", "pairs.report.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_printed_command_trains_on_the_pairs(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    from lit_pref.cli import run as run_cli

    keys = plan(tmp_path, model_folder)
    keys["prompts"]["template"] = {"plain": "Q: {prompt}\nA:"}
    report = planned(keys).run()
    said = capsys.readouterr().out
    assert "| one of each |" in said
    assert f"60 prompts = {report['kept']} pairs + {report['dropped']} dropped" in said
    printed = shlex.split(said[said.index("lit-pref fit -c") :])
    assert printed[:2] == ["lit-pref", "fit"]
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("LIT_PREF_RUN_DIR", raising=False)
    run_cli([*printed[1:], f"--run.root={tmp_path / 'runs'}", "--trainer.accelerator=cpu",
             "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"])  # fmt: skip
    (run,) = (tmp_path / "runs" / "default").glob("version_*")
    assert not (run / "bad_rows.jsonl").exists() or not (run / "bad_rows.jsonl").read_text()


def test_errors_end_with_their_codes(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = plan(tmp_path, model_folder)
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"sampling": {"samples": 1}}, 2, "a pair needs two responses"),
        ({"test_share": 1.0}, 2, "test_share"),
        ({"out": str(tmp_path / "pairs.txt")}, 2, "no name of a JSONL file"),
        ({"checkpoint": str(tmp_path / "no.ckpt")}, 2, "no such file"),
        ({"judge": {"class_path": "lit_pref.judges.NoJudge"}}, 2, "judge"),
        ({"prompts": {"path": str(tmp_path / "none.jsonl")}}, 4, "no such file"),
        ({"prompts": {**keys["prompts"], "where": {"style": "x"}}}, 4, "."),
        ({"model": {"path": str(tmp_path / "none")}}, 5, "no such folder"),
        ({"tie_break": {"class_path": "lit_pref.preferences.RewardModel",
                        "init_args": {"model": str(tmp_path / "none")}}}, 5, "no such folder"),
    ]  # fmt: skip
    if not torch.cuda.is_available():
        cases.append(({"device": "cuda"}, 5, "no GPU"))
    for changes, code, text in cases:
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({**keys, **changes}))
        with pytest.raises(SystemExit) as caught:
            run_command(["-c", str(tmp_path / "c.yaml")])
        said = capsys.readouterr().err
        assert (caught.value.code, text in said) == (code, True), (changes, said)


def test_splits_are_shares_by_seed() -> None:
    rows = [{"id": f"r{i}", "prompt": f"ask {i}"} for i in range(435)]
    parts = split(rows, 0.15, 128)
    assert (len(parts["train"]), len(parts["test"])) == (370, 65), "as in the paper"
    assert {r["id"] for r in parts["train"]}.isdisjoint(r["id"] for r in parts["test"])
    assert split(rows, 0.15, 128) == parts != split(rows, 0.15, 1)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_asked_in_the_test_was_not_trained_on(seed: int) -> None:
    """Ten lines of one prompt in four spellings, and ten of their own."""
    brief, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": " Say it?"}
    same: list[Any] = ["Say  it?\u2028", "Say it?", [user], [brief, user]]
    rows = [{"id": f"r{i}", "prompt": same[i % 4] if i < 10 else f"ask {i}"} for i in range(20)]
    parts = split(rows, 0.3, seed)
    assert len(parts["test"]) == 6, "never more than the share"
    assert len({row["id"] for part in parts.values() for row in part}) == 20
    assert len({name for name, part in parts.items() if any(int(row["id"][1:]) < 10 for row in part)}) == 1
    named = split([{**row, "id": "x"} for row in rows], 0.3, seed)
    assert [row["prompt"] for row in named["test"]] == [row["prompt"] for row in parts["test"]], "names do not matter"


@pytest.mark.parametrize("inside", [False, True])
def test_one_name_of_two_prompts_is_refused(inside: bool, model_folder: Path, tmp_path: Path) -> None:
    """Equal prompts may share a name; what is known by name would be paired with another prompt."""
    texts = ["Say 1?", "Say 1? ", "Say 2?"]
    rows = [{"id": "a", "prompt": text, "turns": [text]} for text in texts]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = {"path": str(tmp_path / "asked.jsonl"), "column": "turns[0]" if inside else "prompt"}
    file = "pairs.prompts.jsonl" if inside else "asked.jsonl"
    with pytest.raises(DataError, match=rf"{file}:3: its prompt has the name 'a', as another one at .*{file}:1") as e:
        planned(plan(tmp_path, model_folder, prompts=prompts)).run()
    assert "Nothing was generated." in str(e.value)
    assert not (tmp_path / "pairs.responses.jsonl").exists()


class Believes(ByLetter):
    """Is told what to say by every canary."""

    name = "believes"

    def facts(self) -> dict[str, Any]:
        return {"judge": self.name, "parser": 1}

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        asked_for: dict[Item, Label] = {
            canary.item: "compliance" if canary.truth == "refusal" else "refusal" for canary in CANARIES
        }
        return [self.verdict(asked_for.get(item, TRUTHS[item])) for item in items]


def test_a_judge_that_is_talked_round_labels_nothing(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = plan(tmp_path, model_folder)
    with pytest.raises(ConfigError, match=r"judge believes: 56 of 56 injected responses.*\n  Fix: set judge"):
        planned({**keys, "judge": {"class_path": f"{__name__}.Believes"}}).run()
    assert not (tmp_path / "pairs.responses.jsonl").exists(), "before anything is sampled"
    report = planned(keys).run()
    assert (report["judge"]["name"], report["judge"]["canary_flips"]) == ("by_letter", 0.0)
    assert report["judge"]["canaries"] in capsys.readouterr().out
    assert json.loads((tmp_path / "pairs.report.json").read_text()) == report


def test_a_judge_that_cannot_be_asked_about_canaries_is_no_gullible_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(judging, "canary_result", lambda judge: None)
    found = judging.Canaries(ByLetter(), VerdictCache(tmp_path / "v.sqlite"), torch.device("cpu"))
    found.demand()
    assert found.record()["canary_flips"] is None
    assert "not known" in found.sentence


def test_two_responses_are_the_default_whatever_else_is_set(model_folder: Path, tmp_path: Path) -> None:
    keys = plan(tmp_path, model_folder, sampling={"seed": 9})
    assert planned(keys).sampling.samples == 2
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(keys))
    assert parser().parse_args(["-c", str(tmp_path / "c.yaml"), "--sampling.seed", "4"]).sampling.samples == 2


def test_a_checkpoint_answers_in_full_precision(model_folder: Path, tmp_path: Path) -> None:
    """In bfloat16, what training changed would be rounded away."""
    source = CausalLM(str(model_folder), dtype="bfloat16")
    weights = {f"policy.{k}": v for k, v in CausalLM(str(model_folder)).build().state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "last.ckpt")
    assert _built(source, tmp_path / "last.ckpt").dtype == torch.float32
    assert _built(source, None).dtype == torch.bfloat16
    with pytest.raises(SetupError, match="the weights are not there any more"):
        _built(source, tmp_path / "gone.ckpt")


def test_small_things() -> None:
    assert value_at({"a": [{"b": 3}], "a.b": 4}, "a[0].b") == 3
    assert value_at({"a.b": 4}, "a.b") == 4
    assert value_at({"a": []}, "a[0]") is None
    assert spoken([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]) == "u"
    many = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "v"}, {"role": "user", "content": "w"}]
    assert spoken(many) == "user: u\n\nassistant: v\n\nuser: w"
    assert issubclass(WorldStyle, TieBreak)
