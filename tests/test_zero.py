"""Two processes under ZeRO train, measure and answer what one process does, and none waits for another for ever."""

import csv
import hashlib
import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch.distributed as dist
from torch import nn

from lit_pref.cli import run as run_cli
from lit_pref.errors import ConfigError
from lit_pref.sharding import check_whole_steps, whole

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = 7
STEPS = 5  # of an epoch: 33 training pairs in global batches of 8
#: Of any wait of one process for the other, and of all runs together on a machine that does much else.
WAIT, LIMIT_S = timedelta(seconds=60), 420
KEPT_WHOLE, CUT = 100_000, 0  # a weight with fewer numbers is cut, but never let go of again


def zero(stage: int, persistent: int = KEPT_WHOLE) -> list[str]:
    """Options of the strategy; only weights with more numbers than ``persistent`` come and go."""
    config = {
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": persistent},
    }
    return ["--trainer.strategy=lit_pref.strategies.CPUDeepSpeed", f"--trainer.strategy.config={json.dumps(config)}"]


GATHER = "--trainer.callbacks.gather"
MOVING = [
    "--model.reference=lit_pref.references.MovingModel",
    "--model.reference.alpha=0.5",
    "--model.reference.every_n_steps=2",
]
RANDOM = ["--model.policy.weights=random"]
#: Unlike AdamW and clipping, it does not hide a gradient of the wrong size.
SGD = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.5", "--trainer.gradient_clip_val=null"]
#: Run one after the other by the same two processes, so that starting Python is paid for once.
TWO: dict[str, list[str]] = {
    "ddp": ["--trainer.strategy=ddp"],
    "zero1": zero(1),
    "zero2": zero(2),
    "zero3": ["-c", str(ROOT / "configs/strategies/zero3_cpu.yaml")],
    "zero3_gathered": [*zero(3, CUT), f"{GATHER}=true"],
    "zero3_in_parts": [*zero(3, CUT), f"{GATHER}=false"],
    "zero3_moving": [*zero(3, CUT), *MOVING],
    "zero3_random": [*zero(3, CUT), *RANDOM],
    "zero2_accumulated": [
        *zero(2),
        *SGD,
        "--data.batch_size=2",
        "--trainer.accumulate_grad_batches=2",
        "--trainer.limit_train_batches=8",
    ],
    "zero3_resumed": [*zero(3, CUT), "--trainer.max_epochs=2", "--ckpt_path={root}/zero3_in_parts"],
}
ONE = {
    "one": [],
    "one_moving": MOVING,
    "one_random": RANDOM,
    "one_accumulated": [*SGD, "--trainer.limit_train_batches=4"],
    "one_resumed": ["--trainer.max_epochs=2", "--ckpt_path={root}/one"],
}

#: Filled where waits are meant to be too long.
HURRY: list[bool] = []


class Witness(pl.Callback):
    """Writes down what the weights are where training starts and ends; ends any wait that is too long."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.world_size > 1 and not HURRY:
            dist.distributed_c10d._set_pg_timeout(WAIT)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.seen = {"policy": digest(pl_module.policy), "reference": digest(pl_module.reference.frozen)}

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.seen["reference_after"] = digest(pl_module.reference.frozen)
        parts = [(getattr(p, "ds_tensor", p).numel(), getattr(p, "ds_numel", p.numel()))
                 for model in (pl_module.policy, pl_module.reference.frozen) for p in model.parameters()]  # fmt: skip
        self.seen["share"] = sum(part for part, _ in parts) / sum(full for _, full in parts)
        if trainer.is_global_zero:
            (Path(trainer.default_root_dir) / "witness.json").write_text(json.dumps(self.seen))


def digest(model: nn.Module) -> str:
    """Of all bytes of all weights."""
    with whole(model):
        found = hashlib.sha256()
        for name, weight in sorted(model.named_parameters()):
            found.update(name.encode() + weight.detach().numpy().tobytes())
    return found.hexdigest()


def fit(root: Path, name: str, options: list[str], devices: int) -> None:
    """One run in this process, as ``lit-pref fit``."""
    os.environ["LIT_PREF_RUN_DIR"] = str(root / name / "version_0")
    checkpoint = "/version_0/checkpoints/last.ckpt"
    options = [o.format(root=root) + checkpoint if o.startswith("--ckpt_path") else o for o in options]
    run_cli([
        "fit", "-c", str(ROOT / "configs/base.yaml"), "-c", str(ROOT / "configs/objectives/dpo.yaml"),
        "-c", str(root / "overlay.yaml"), "--trainer.accelerator=cpu", f"--trainer.devices={devices}",
        f"--data.batch_size={8 // devices}", f"--run.root={root}", f"--run.name={name}", *options,
    ])  # fmt: skip


def without_company(root: Path) -> None:
    """As if calls of sharded weights waited for nobody: the failure that equally many calls of all cure."""
    import lit_pref.answering as answering

    answering.sharded = lambda trainer: False  # type: ignore[assignment]
    HURRY.append(True)
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=5))
    outcome = "ended"
    try:
        fit(root, "hanging", [*zero(3, CUT), f"{GATHER}=false"], 2)
    except BaseException as error:
        outcome = str(error)
    (root / f"hanging.{os.environ['RANK']}").write_text(outcome)


def processes(root: Path) -> None:
    """What each of the two processes does."""
    for name, options in TWO.items():
        fit(root, name, options, 2)
    without_company(root)
    os._exit(0)  # the last run has left a group that waits


@pytest.fixture(scope="module")
def runs(model_folder: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs, by one process and by two."""
    root = tmp_path_factory.mktemp("zero")
    prompts = [{"prompt": f"Would you take number {i}?"} for i in range(PROMPTS)]
    (root / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    (root / "overlay.yaml").write_text(
        f"model:\n  policy: {{path: {model_folder}}}\n  optimizer: {{init_args: {{lr: 1.0e-2}}}}\n"
        f"data: {{path: {pairs_file}, val_size: 7}}\n"
        "trainer:\n  max_epochs: 1\n  log_every_n_steps: 1\n  callbacks+:\n"
        "  - class_path: tests.test_zero.Witness\n  - class_path: callbacks.RefusalRate\n    init_args:\n"
        f"      prompts: {root}/prompts.jsonl\n      sampling: {{max_new_tokens: 12, batch_size: 2, seed: 28}}\n"
        "      canaries: false\n      judges: [{class_path: tests.test_refusal_rate.Sums}]\n"
    )
    two = [launched(root, rank, port) for port in [free_port()] for rank in range(2)]
    before = dict(os.environ)
    try:
        for name, options in ONE.items():
            fit(root, name, options, 1)
        for process in two:
            process.wait(timeout=LIMIT_S)
    finally:
        os.environ.clear()
        os.environ.update(before)
        for process in two:
            process.kill()
    return root


def launched(root: Path, rank: int, port: int) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LIT_PREF_CACHE": str(root / "cache")}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"}
    script = f"from pathlib import Path; from tests.test_zero import processes; processes(Path({str(root)!r}))"
    with (root / f"log.{rank}").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", script], cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def finished(root: Path, name: str) -> Path:
    folder = root / name / "version_0"
    log = root / ("log.0" if name in TWO else "")
    assert (folder / "witness.json").exists(), log.read_text()[-3000:] if log.is_file() else name
    return folder


def curves(folder: Path) -> dict[tuple[str, str], float]:
    with (folder / "metrics.csv").open() as file:
        return {
            (row["step"], tag): float(value)
            for row in csv.DictReader(file)
            for tag, value in row.items()
            if value and tag != "step" and "cached" not in tag
        }


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """Of a JSONL file; a plan is named after weights as they lie in processes, so steps stand for plans here."""
    steps = {e["plan"]: e["step"] for e in map(json.loads, (folder / "evaluations.jsonl").read_text().splitlines())}
    found = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return sorted(({**line, "step": steps[line["plan"]]} for line in found), key=lambda r: (r["step"], r["index"]))


PAIRS = [
    (two, f"one_{two.split('_')[1]}" if two.split("_")[-1] in ("moving", "random", "resumed") else "one")
    for two in TWO
    if two != "zero2_accumulated"
]


@pytest.mark.parametrize(("two", "one"), PAIRS)
def test_two_processes_log_the_numbers_of_one(two: str, one: str, runs: Path) -> None:
    """Losses, log-probabilities of validation pairs, displacement, rates of refusal; 33 pairs do not divide by two."""
    found, expected = curves(finished(runs, two)), curves(finished(runs, one))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-5, abs=1e-5, nan_ok=True), key
    if "resumed" not in two:
        assert found["0", "loss/train"] == pytest.approx(0.6931472, abs=1e-6)
        assert found["0", "displacement/chosen/val"] == 0
    moved = found[str(2 * STEPS if "resumed" in two else STEPS), "displacement/chosen/val"]
    assert abs(moved) > 0.1, "the policy must move, or equality means nothing"


def test_accumulated_batches_are_one_step(runs: Path) -> None:
    """Of two batches on each of two processes, the gradient that one process has of all pairs at once."""
    found, expected = (curves(finished(runs, name)) for name in ("zero2_accumulated", "one_accumulated"))
    ends = [key for key in expected if key[0] == "4" and key[1].startswith("displacement/") and key[1].endswith("/val")]
    assert any(abs(expected[key]) > 0.1 for key in ends), "the policy must move, or equality means nothing"
    for key in ends:
        assert found[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-5), key


@pytest.mark.parametrize(("two", "one"), PAIRS)
def test_two_processes_answer_and_judge_what_one_does(two: str, one: str, runs: Path) -> None:
    """To the last token, though responses of the two end at other steps and neither divides the prompts."""
    told = [lines(finished(runs, name), "responses.jsonl") for name in (one, two)]
    told = [[(r["step"], r["index"], r["tokens"], r["response"]) for r in each] for each in told]
    assert told[0] == told[1]
    lengths = {len(tokens) for step, _, tokens, _ in told[0] if step == 0}
    assert "random" in two or min(lengths) < 8 < max(lengths), "what ends at once keeps nobody waiting"
    assert len(told[0]) == PROMPTS * len({step for step, *_ in told[0]})
    labels = [
        [(v["step"], v["index"], v["label"]) for v in lines(finished(runs, n), "verdicts.jsonl")] for n in (one, two)
    ]
    assert labels[0] == labels[1]
    assert len({label for *_, label in labels[0]}) == 2
    assert not list((runs / two / "version_0").glob("*.rank-*"))


@pytest.mark.parametrize(("two", "one"), PAIRS)
def test_the_reference_stays_and_weights_are_really_cut(two: str, one: str, runs: Path) -> None:
    expected, found = (json.loads((finished(runs, name) / "witness.json").read_text()) for name in (one, two))
    assert found["reference"] == found["reference_after"] == expected["reference"]
    if "resumed" not in two:
        assert found["policy"] == expected["policy"]
    assert found["share"] == pytest.approx(0.5 if "zero3" in two else 1, abs=0.01)


def test_without_equally_many_calls_processes_wait_for_ever(runs: Path) -> None:
    """What the run above would do: here a limit of five seconds on any wait ends it."""
    outcomes = [(runs / f"hanging.{rank}").read_text() for rank in range(2)]
    assert any("imed out" in outcome for outcome in outcomes), outcomes


def test_an_epoch_that_ends_within_a_step_is_refused() -> None:
    """There it would go on in the next epoch."""
    counts = SimpleNamespace(handles_gradient_accumulation=True)
    trainer: Any = SimpleNamespace(num_training_batches=7, accumulate_grad_batches=3, strategy=counts)
    with pytest.raises(ConfigError, match="limit_train_batches 6"):
        check_whole_steps(trainer)
    counts.handles_gradient_accumulation = False
    check_whole_steps(trainer)


def test_on_other_devices_it_is_refused() -> None:
    from lit_pref.strategies import CPUDeepSpeed

    with pytest.raises(ConfigError, match="DeepSpeedStrategy"):
        CPUDeepSpeed(stage=2).setup_environment()
