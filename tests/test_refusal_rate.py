"""Refusal rates while training are those of the responses on disk; no judge, restart or process changes that."""

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from scipy.stats import binomtest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import LastCheckpoint, RefusalRate
from lit_pref.answering import Answering
from lit_pref.cli import run as run_cli
from lit_pref.data.datamodule import PreferenceData
from lit_pref.drawing import Sampling
from lit_pref.errors import ConfigError
from lit_pref.judges import EndpointJudge, Item, Judge, KeywordJudge, Verdict
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from lit_pref.panel import Session
from objectives import DPO

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = 12
SECRET = "sk-very-secret-9876543210"


def label_of(response: str) -> str:
    """A verdict that moves with the response, whatever a small model writes."""
    return "refusal" if sum(response.encode("utf-8", "replace")) % 3 else "compliance"


class Sums(Judge):
    """Labels by the sum of a response's bytes; some responses or all of them otherwise."""

    def __init__(self, name: str = "sums", every: int = 0, other: str = "unparseable") -> None:
        self.name, self.every, self.other = name, every, other
        self.asked: list[Item] = []

    def facts(self) -> dict[str, Any]:
        return {"judge": self.name, "every": self.every, "other": self.other}

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        self.asked += items
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Verdict:
        if self.every and sum(item.prompt.encode()) % self.every == 0:
            return self.verdict(self.other)  # type: ignore[arg-type]
        return self.verdict(label_of(item.response), score=0.75)  # type: ignore[arg-type]


class Breaks(Sums):
    """Fails in whatever it is asked for."""

    def __init__(self, error: type[BaseException] = RuntimeError) -> None:
        super().__init__("breaks")
        self.error = error

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        raise self.error("the judge fell over")


class Believes(Sums):
    """Is talked round by every claim that a response makes."""

    def _one(self, item: Item) -> Verdict:
        from lit_pref.judges.canaries import CANARIES, OPPOSITE

        for canary in CANARIES:
            if item == canary.item:
                return self.verdict(OPPOSITE[canary.truth])
            if item == canary.plain:
                return self.verdict(canary.truth)
        return super()._one(item)


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Would you take number {i}?"}) + "\n" for i in range(PROMPTS)))
    return path


def rate(asked: Path, *judges: Judge, **options: Any) -> RefusalRate:
    sampling = options.pop("sampling", Sampling(max_new_tokens=6, batch_size=5))
    options = {"canaries": False, "cache": str(asked.parent / "verdicts.sqlite"), **options}
    return RefusalRate(str(asked), list(judges) or [Sums()], sampling, **options)


def fit(folder: Path, pairs: Path, root: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    module = PreferenceModule(CausalLM(str(folder)), DPO(), None, lambda p: torch.optim.AdamW(p, lr=1e-3))
    ckpt_path = options.pop("ckpt_path", None)
    data = PreferenceData(str(pairs), batch_size=4, val_size=7, val_batch_size=7)
    trainer = pl.Trainer(
        **{"max_epochs": 2, **options}, accelerator="cpu", callbacks=list(callbacks), default_root_dir=root,
        logger=[CSVLogger(root, name="", version=""), TensorBoardLogger(root, name="", version="")],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1,
        use_distributed_sampler=False, reload_dataloaders_every_n_epochs=1, limit_val_batches=0,
        enable_checkpointing=any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks),
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


def curves(root: Path) -> dict[tuple[int, str], float]:
    with (root / "metrics.csv").open() as file:
        return {
            (int(row["step"]), tag): float(value)
            for row in csv.DictReader(file)
            for tag, value in row.items()
            if value and tag.startswith(("refusal/", "judge/"))
        }


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(root: Path) -> dict[str, list[str]]:
    found = EventAccumulator(str(root), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [event.tensor_proto.string_val[0].decode() for event in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
    }


# --- numbers ------------------------------------------------------------------------------------------------------


def test_rates_are_those_of_the_responses_on_disk(
    model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(model_folder, pairs_file, tmp_path, rate(asked, Sums(), Sums("other", every=2, other="partial"),
        control_prompts=str(asked), limit=11))  # fmt: skip
    found = curves(tmp_path)
    evaluations = lines(tmp_path / "evaluations.jsonl")
    assert [(e["step"], e["set"]) for e in evaluations] == [
        (step, kind) for step in (0, 9, 18) for kind in ("prompts", "control")
    ]
    assert len({e["asked"] for e in evaluations}) == 1, "the same prompts, whatever the policy"
    assert len({e["plan"] for e in evaluations}) == 3, "of three policies"
    assert all(e["judges"] == {"sums": Sums().fingerprint, "other": evaluations[0]["judges"]["other"]}
               for e in evaluations)  # fmt: skip
    responses = lines(tmp_path / "responses.jsonl")
    # Both sets hold the same prompts here, so what is asked is the same, and is generated once.
    assert len(responses) == 3 * 11
    first: list[bool] = []
    for evaluation in evaluations:
        own = sorted((r for r in responses if r["plan"] == evaluation["plan"]), key=lambda r: r["index"])
        refuses = [label_of(r["response"]) == "refusal" for r in own]
        first = first or refuses
        over = "over_" if evaluation["set"] == "control" else ""
        step, n, k = evaluation["step"], len(refuses), sum(refuses)
        interval = binomtest(k, n).proportion_ci(method="wilson")
        assert found[step, f"refusal/{over}rate_sums/val"] == pytest.approx(k / n)
        assert found[step, f"refusal/{over}low_sums/val"] == pytest.approx(interval.low)
        assert found[step, f"refusal/{over}high_sums/val"] == pytest.approx(interval.high)
        assert found[step, f"judge/{over}error_sums/val"] == 0
        if step and not over:
            gained = sum(b and not a for a, b in zip(first, refuses, strict=True))
            lost = sum(a and not b for a, b in zip(first, refuses, strict=True))
            expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
            assert found[step, "refusal/change_sums/val"] == pytest.approx((gained - lost) / n)
            assert found[step, "refusal/change_p_sums/val"] == pytest.approx(expected)
    assert len({r["response"] for r in responses}) > 11, "the policy must move, or nothing was compared"
    partial = sum(sum(f"Would you take number {i}?".encode()) % 2 == 0 for i in range(11))
    assert found[0, "refusal/partial_other/val"] == pytest.approx(partial / 11)
    assert found[0, "judge/agreement_other/val"] == pytest.approx(1 - partial / 11)
    assert "judge/kappa_other/val" in {tag for _, tag in found}
    assert len(lines(tmp_path / "verdicts.jsonl")) == 3 * 2 * 2 * 11
    said = capsys.readouterr().out
    assert "Refusals on 11 prompts (sums): " in said
    assert "before training" in said
    assert "exact McNemar p" in said
    assert "Over-refusals on 11 harmless prompts (other): " in said
    assert "kappa" in said


def test_training_is_the_same_with_and_without(
    model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path
) -> None:
    weights = [
        torch.cat([p.detach().flatten() for p in fit(model_folder, pairs_file, tmp_path / str(len(c)), *c)
                   .lightning_module.policy.parameters()])  # type: ignore[union-attr]
        for c in ([], [rate(asked)])
    ]  # fmt: skip
    assert torch.equal(*weights)


def test_several_samples_of_a_prompt_are_drawn_again_together(
    model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path
) -> None:
    sampling = Sampling(max_new_tokens=4, samples=3)
    fit(model_folder, pairs_file, tmp_path, rate(asked, sampling=sampling), max_epochs=1)
    found = curves(tmp_path)
    assert math.isnan(found[9, "refusal/change_p_sums/val"]), "McNemar takes pairs to be independent"
    refusals = sum(v["label"] == "refusal" for v in lines(tmp_path / "verdicts.jsonl") if v["step"] == 0)
    wilson = binomtest(refusals, 3 * PROMPTS).proportion_ci(method="wilson")
    low, high = (found[0, f"refusal/{end}_sums/val"] for end in ("low", "high"))
    assert low <= refusals / (3 * PROMPTS) <= high
    assert (low, high) != pytest.approx((wilson.low, wilson.high))


def test_every_n_epochs_and_the_end(model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path) -> None:
    fit(model_folder, pairs_file, tmp_path, rate(asked, every_n_epochs=2), max_epochs=3)
    assert [e["step"] for e in lines(tmp_path / "evaluations.jsonl")] == [0, 18, 27]


# --- judges that fail ---------------------------------------------------------------------------------------------


def test_a_judge_that_cannot_be_asked_leaves_no_rate_and_does_not_stop_training(
    model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = Sums("silent", every=1, other="error")
    trainer = fit(
        model_folder, pairs_file, tmp_path, rate(asked, Breaks(), silent, KeywordJudge(), canaries=True, max_abstain=1)
    )
    assert trainer.global_step == 18
    found = curves(tmp_path)
    for name in ("breaks", "silent"):
        assert not [tag for _, tag in found if tag.startswith("refusal/") and tag.endswith(f"_{name}/val")]
        assert found[18, f"judge/error_{name}/val"] == PROMPTS
    assert found[18, "refusal/rate_keyword_v2/val"] >= 0, "the other judge goes on"
    said = capsys.readouterr().out
    assert "breaks cannot judge: RuntimeError: the judge fell over." in said
    assert "silent gave no verdict" in said
    assert f'{PROMPTS} of {PROMPTS} failed with: "RuntimeError: the judge fell over"' in said
    reasons = {v["reason"] for v in lines(tmp_path / "verdicts.jsonl") if v["judge"] == "breaks"}
    assert reasons == {"RuntimeError: the judge fell over"}


def test_a_rate_with_many_abstentions_is_nan_and_their_bounds_are_known(
    model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(model_folder, pairs_file, tmp_path, rate(asked, Sums(every=4)), max_epochs=1)
    labels = [v["label"] for v in lines(tmp_path / "verdicts.jsonl") if v["step"] == 0]
    n, lost, refusals = len(labels), labels.count("unparseable"), labels.count("refusal")
    assert 0 < lost < n
    found = curves(tmp_path)
    for name in ("rate", "low", "high", "compliance", "partial"):
        assert math.isnan(found[0, f"refusal/{name}_sums/val"])
    assert found[0, "refusal/worst_low_sums/val"] == pytest.approx(refusals / n)
    assert found[0, "refusal/worst_high_sums/val"] == pytest.approx((refusals + lost) / n)
    assert found[0, "judge/unparseable_sums/val"] == lost
    assert "more than max_abstain" in capsys.readouterr().out
    assert not [tag for _, tag in found if "change" in tag], "of rates that are unknown no change is known"


def test_ctrl_c_in_a_judge_ends_the_run(model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path) -> None:
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(model_folder, pairs_file, tmp_path, rate(asked, Breaks(KeyboardInterrupt)))


def test_a_judge_that_is_talked_round_has_no_rate(
    model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(model_folder, pairs_file, tmp_path, rate(asked, Believes("gullible"), canaries=True), max_epochs=1)
    found = curves(tmp_path)
    assert found[0, "judge/canary_flip_gullible/val"] == 1
    assert (9, "judge/canary_flip_gullible/val") not in found
    assert math.isnan(found[0, "refusal/rate_gullible/val"])
    assert math.isnan(found[9, "refusal/rate_gullible/val"])
    assert math.isnan(found[9, "refusal/worst_low_gullible/val"]), "without abstentions it would be the rate"
    assert not [tag for _, tag in found if "change" in tag]
    assert "rates by this judge are not reported" in capsys.readouterr().out


def test_wrong_settings_are_refused(asked: Path) -> None:
    for options in ({"every_n_epochs": 0}, {"max_abstain": 2.0}, {"limit": 0}):
        with pytest.raises(ConfigError):
            rate(asked, **options)
    with pytest.raises(ConfigError, match="judges is empty"):
        RefusalRate(str(asked), [])


# --- restarts and processes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [9, 14], ids=["at the end of an epoch", "within an epoch"])
def test_a_restart_neither_loses_nor_doubles_an_evaluation(
    stop: int, model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path
) -> None:
    whole, cut, resumed = (tmp_path / name for name in ("whole", "cut", "resumed"))
    fit(model_folder, pairs_file, whole, rate(asked, cache=str(tmp_path / "a")), LastCheckpoint())
    fit(model_folder, pairs_file, cut, rate(asked, cache=str(tmp_path / "b")), LastCheckpoint(), max_steps=stop)
    judge = Sums()
    checkpoint = cut / "checkpoints" / "last.ckpt"
    fit(model_folder, pairs_file, resumed, rate(asked, judge, cache=str(tmp_path / "b")), LastCheckpoint(),
        ckpt_path=checkpoint)  # fmt: skip
    torch.load(checkpoint, weights_only=True)
    expected, found = curves(whole), curves(resumed)
    later = {key: value for key, value in expected.items() if key[0] > stop or (key[0] == stop == 9)}
    cached = {key for key in later if "cached" in key[1]}
    assert {k: v for k, v in found.items() if k not in cached} == {k: v for k, v in later.items() if k not in cached}
    for name in ("evaluations.jsonl", "verdicts.jsonl"):
        one, two = ([{**line, "cached": 0} for line in lines(root / name)] for root in (whole, resumed))
        assert one == two
    plans = {line["plan"] for line in lines(whole / "evaluations.jsonl")}
    held = [(r["plan"], r["index"], r["sample"]) for r in lines(resumed / "responses.jsonl") if r["plan"] in plans]
    assert len(held) == len(set(held)) == 3 * PROMPTS
    # What was answered and judged before the restart is taken from the files.
    assert len(judge.asked) <= PROMPTS


def test_what_was_answered_before_a_kill_is_not_generated_again(
    model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path
) -> None:
    """Killed while the evaluation after the first epoch is judged: its responses are on disk, its verdicts are not."""

    class Killed(Sums):
        def judge(self, items: Sequence[Item]) -> list[Verdict]:
            if self.asked:
                raise KeyboardInterrupt
            return super().judge(items)

    cut, resumed = tmp_path / "cut", tmp_path / "resumed"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(model_folder, pairs_file, cut, rate(asked, Killed()), LastCheckpoint())
    before = lines(cut / "responses.jsonl")
    assert len(before) == 2 * PROMPTS
    fit(model_folder, pairs_file, resumed, rate(asked), ckpt_path=cut / "checkpoints" / "last.ckpt")
    assert lines(resumed / "responses.jsonl")[: 2 * PROMPTS] == before
    assert len(lines(resumed / "responses.jsonl")) == 3 * PROMPTS
    assert [e["step"] for e in lines(resumed / "evaluations.jsonl")] == [0, 9, 18]
    assert [v["step"] for v in lines(resumed / "verdicts.jsonl")] == [0] * PROMPTS + [9] * PROMPTS + [18] * PROMPTS


def test_responses_are_found_where_the_run_is_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run's folder was moved, and another run took its old name."""
    first, moved, again = (tmp_path / name for name in ("first", "moved", "again"))
    answering = Answering(Sampling())
    answering.open(first, True)
    answering.log.append([{"plan": "a", "step": 0}])
    (first / "responses.jsonl").write_text('{"plan": "a"}\n')
    state = answering.state_dict()
    first.rename(moved)
    first.mkdir()
    (first / "responses.jsonl").write_text('{"plan": "another run\'s"}\n')
    resumed = Answering(Sampling())
    resumed.open(again, True, str(moved / "checkpoints" / "last.ckpt"))
    resumed.load_state_dict(state)
    assert (again / "responses.jsonl").read_text() == '{"plan": "a"}\n'
    assert lines(again / "evaluations.jsonl") == [{"plan": "a", "step": 0}]
    lost = Answering(Sampling())
    lost.open(tmp_path / "lost", True)
    lost.load_state_dict(state)
    assert not (tmp_path / "lost" / "responses.jsonl").exists(), "those of the other run are not its own"
    assert "no longer holds the lines of the checkpoint" in capsys.readouterr().out


def test_a_signal_does_not_wait_for_a_slow_judge(tmp_path: Path) -> None:
    judge = Sums()
    items = [Item(f"prompt {i}", f"response {i}") for i in range(200)]
    session = Session(judge, "sums", stop=lambda: len(judge.asked) >= 64)
    labels = [verdict.label for verdict in session.judge(items)]
    assert len(judge.asked) < 200
    assert labels.count("error") == 200 - len(judge.asked)


def test_a_signal_ends_the_answers_between_two_batches(
    model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path
) -> None:
    callback = rate(asked)

    class Signal(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer._signal_connector.received_sigterm = True

    with pytest.raises(BaseException):  # noqa: B017, PT011  Lightning's own, or the exit that it makes of it
        fit(model_folder, pairs_file, tmp_path, Signal(), callback, max_epochs=3)
    assert len(lines(tmp_path / "responses.jsonl")) < 2 * PROMPTS, "it did not wait for all of them"


def test_two_processes_log_the_numbers_of_one(model_folder: Path, pairs_file: Path, asked: Path) -> None:
    one, two = (_fit_by_command(model_folder, pairs_file, asked, devices) for devices in (1, 2))
    first, second = curves(one), curves(two)
    assert first.keys() == second.keys()
    assert (10, "refusal/rate_keyword_v2/val") in first
    for key, value in first.items():
        if "cached" not in key[1]:
            assert second[key] == pytest.approx(value, nan_ok=True), key
    for name in ("evaluations.jsonl", "verdicts.jsonl"):
        assert len(lines(one / name)) == len(lines(two / name))
    for root in (one, two):
        answers = {(r["plan"], r["index"]): r["tokens"] for r in lines(root / "responses.jsonl")}
        assert len(answers) == len(lines(root / "responses.jsonl")) == 2 * PROMPTS
    told = [sorted((r["index"], r["response"]) for r in lines(root / "responses.jsonl")) for root in (one, two)]
    assert told[0] == told[1]


def _fit_by_command(folder: Path, pairs: Path, asked: Path, devices: int) -> Path:
    root = asked.parent
    overlay = root / f"overlay_{devices}.yaml"
    overlay.write_text(
        "trainer:\n  callbacks:\n  - class_path: callbacks.RefusalRate\n    init_args:\n"
        f"      prompts: {asked}\n      sampling: {{max_new_tokens: 5, batch_size: 3}}\n      judges:\n"
        "      - class_path: lit_pref.judges.KeywordJudge\n      - class_path: lit_pref.judges.KeywordJudge\n"
        "        init_args: {phrases: [a, e, i, o, s, t], window: 3}\n"
    )
    arguments = [
        "-c", str(ROOT / "configs/base.yaml"), "-c", str(ROOT / "configs/objectives/dpo.yaml"), "-c", str(overlay),
        f"--model.policy.path={folder}", "--model.optimizer.lr=1e-3", f"--data.path={pairs}", "--data.val_size=7",
        f"--data.batch_size={4 // devices}", "--trainer.accelerator=cpu", f"--trainer.devices={devices}",
        f"--trainer.strategy={'ddp' if devices > 1 else 'auto'}", "--trainer.max_steps=10", "--trainer.max_epochs=2",
        "--trainer.enable_checkpointing=false", f"--run.root={root}", f"--run.name=on_{devices}",
    ]  # fmt: skip
    arguments[-3:-3] = ["--trainer.callbacks.every_n_epochs=9"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["LIT_PREF_CACHE"] = str(root / f"cache_{devices}")
    environment.pop("LIT_PREF_RUN_DIR", None)
    result = subprocess.run(
        [sys.executable, "-m", "lit_pref", "fit", *arguments], cwd=root, capture_output=True, text=True,
        env=environment, timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Refusals on 12 prompts (keyword_v2): " in result.stdout
    return root / f"on_{devices}" / "version_0"


# --- what is shown, and what is not -------------------------------------------------------------------------------


def test_what_a_model_writes_is_shown_as_text(
    model_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lit_pref.answering as answering

    hostile = "![x](http://evil.example/a.png)\n\n# Heading\x0b<script>alert(1)</script>\u2028| a | b |"
    asked = tmp_path / "prompts.txt"
    asked.write_text("<img src=x onerror=alert(1)>\n**bold**\n")
    turns: list[int] = []

    def text_of(*args: Any) -> str:
        turns.append(1)
        return f"{hostile} {'no' if len(turns) <= 2 else 'yes'}"

    monkeypatch.setattr(answering, "text_of", text_of)
    judges = [KeywordJudge(["no"]), KeywordJudge(["yes"])]
    fit(model_folder, pairs_file, tmp_path, rate(asked, *judges), max_epochs=1)
    found = texts(tmp_path)
    tags = [tag for tag in found if tag.startswith(("refusal/flips", "judge/disagreements"))]
    assert len(tags) == 2
    for text in (text for tag in tags for text in found[tag]):
        for line in text.splitlines():
            if any(part in line for part in ("evil", "script>", "Heading", "onerror", "**bold**", "| a |")):
                assert line.startswith("    "), line
        assert "evil.example" in text


def test_a_key_appears_nowhere_and_a_dead_endpoint_does_not_stop_the_run(
    model_folder: Path, pairs_file: Path, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    dead = EndpointJudge("http://127.0.0.1:9/v1", "judge", key_env="JUDGE_KEY", deadline_s=0.5, backoff_s=0.01)
    root = tmp_path / "run"
    trainer = fit(model_folder, pairs_file, root, rate(asked, dead), LastCheckpoint(), max_epochs=1)
    assert trainer.global_step == 9
    assert curves(root)[9, f"judge/error_{dead.name}/val"] == PROMPTS
    assert not [tag for _, tag in curves(root) if tag.startswith("refusal/")]
    assert (root / "checkpoints" / "last.ckpt").exists()
    written = [path for path in (*root.rglob("*"), *tmp_path.glob("verdicts*")) if path.is_file()]
    assert len(written) > 5
    for path in written:
        assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("files", [["refusal_quickstart.yaml"], ["quickstart.yaml", "callbacks/refusal_rate.yaml"]])
def test_shipped_configs_name_judges(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_cli(["fit", *(f"-c={ROOT / 'configs' / name}" for name in files), "--print_config"])
    assert caught.value.code in (0, None)
    printed = capsys.readouterr().out
    assert "lit_pref.judges.KeywordJudge" in printed
    assert "world:request/safe" in printed


def test_a_wrong_judge_names_the_choices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    overlay = tmp_path / "wrong.yaml"
    overlay.write_text(
        "trainer:\n  callbacks:\n  - class_path: callbacks.RefusalRate\n    init_args:\n      prompts: x\n"
        "      judges:\n      - class_path: KeywordJudje\n"
    )
    with pytest.raises(SystemExit) as caught:
        run_cli(["fit", f"-c={ROOT / 'configs/quickstart.yaml'}", f"-c={overlay}"])
    assert caught.value.code == 2
    assert "KeywordJudge" in capsys.readouterr().err
