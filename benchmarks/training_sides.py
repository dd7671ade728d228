"""Sides that train, each in a process of its own and one step at a time. Shared by benchmarks of training.

A side runs the real training loop of its product. Callbacks stop it before every step until its turn comes, and take
the time from there, with the batch at hand, to the end of the optimizer's step: forward, backward, clipping, update.
Both sides: AdamW, learning rate 1e-5, no weight decay, gradients clipped at norm 1, DPO with beta 0.1.
"""

import ctypes
import gc
import multiprocessing as mp
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from resident import resident
from torch import nn
from training_pairs import stored_pairs
from training_shapes import matmul_peak

from lit_pref.cli import TRAINER_DEFAULTS, quiet
from lit_pref.data.datamodule import PreferenceData
from lit_pref.data.loading import ResumableLoader, make_loader
from lit_pref.data.training_rows import TrainingRows
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from lit_pref.order import PairBatches
from lit_pref.references import CachedModel, FrozenModel
from lit_pref.trainer import PrefTrainer
from objectives import DPO

BETA, CLIP = 0.1, 1.0
#: Gradients and the two moments of AdamW: what training holds beside weights, however it is done.
HELD_PER_WEIGHT = 3
LIT_PREF = "lit-pref"


class Side(NamedTuple):
    """Who trains, and how.

    Attributes:
        name: "lit-pref", or what stands in the table for a way of using TRL.
        precision: "float32" or "bfloat16", of arithmetic; weights are float32.
        cached: log-probabilities of the reference are computed before training.
        checkpointing: activations are computed again in backward; of TRL alone.
        compacted: TRL's kernel of the output embedding sees response positions alone; of TRL alone.
        tuned: the C library keeps large blocks, as it does wherever lit-pref trains on a CPU; of TRL alone.
    """

    name: str
    precision: str = "float32"
    cached: bool = True
    checkpointing: bool = False
    compacted: bool = False
    tuned: bool = False


class Task(NamedTuple):
    """What all sides train on.

    Attributes:
        model: folder of its weights.
        pairs: folder of tokenised pairs.
        scratch: folder for files of the sides' own.
        tokenizer: folder or hub name; TRL asks for one.
        batch: pairs a step.
        threads: of torch, on each side.
        peak_size: rows of the matrices by which the best matrix product is measured.
        learning_rate: of AdamW; it has to move losses, or their equality would mean nothing.
    """

    model: Path
    pairs: Path
    scratch: Path
    tokenizer: str
    batch: int
    threads: int
    peak_size: int = 2048
    learning_rate: float = 1e-5


class Ready(NamedTuple):
    """A side stands before a step. ``peak``: operations a CPU second of its best matrix product."""

    peak: float


class Step(NamedTuple):
    """One side's account of one step.

    Attributes:
        wall: seconds.
        cpu: seconds, of all threads.
        loss: mean over the batch, before the update.
        memory: most that the process held so far beyond what it held before the first step, gradients and the
            optimizer's moments; MB.
    """

    wall: float
    cpu: float
    loss: float
    memory: float


class Done(NamedTuple):
    """Training is over."""


class Failed(NamedTuple):
    """What went wrong."""

    report: str


class Turns:
    """The side's end of the line: stops before every step until its turn comes, and times the step."""

    def __init__(self, connection: Connection, peak: float, threads: int) -> None:
        self.connection = connection
        self.peak = peak
        self.threads = threads
        self.held: float | None = None
        self.wall = self.cpu = 0.0

    def begin(self, model: nn.Module) -> None:
        """Called with the batch at hand, before forward."""
        if self.held is None:
            self.held = _held_before(model)
        self.connection.send(Ready(self.peak))
        self.connection.recv()
        assert torch.get_num_threads() == self.threads, "a library changed the number of threads"
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def end(self, loss: float) -> None:
        """Called after the update."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        assert self.held is not None, "no step has begun"
        self.connection.send(Step(wall, cpu, loss, resident("VmHWM") - self.held))


class Worker:
    """The benchmark's end of the line."""

    def __init__(self, side: Side, connection: Connection) -> None:
        self.side = side
        self.connection = connection
        #: Whether it stands before a step.
        self.waits = False
        self.peak = float("nan")

    def wait(self) -> None:
        """Until the side stands before its next step, or is done."""
        message = self._received()
        self.waits = isinstance(message, Ready)
        if isinstance(message, Ready):
            self.peak = message.peak

    def step(self) -> Step:
        """Let it take one step; comes back when the side does nothing any more."""
        self.connection.send("go")
        step = self._received()
        assert isinstance(step, Step)
        self.wait()
        return step

    def _received(self) -> Any:
        try:
            message = self.connection.recv()
        except EOFError:
            raise SystemExit(f"{self.side.name}: its process ended; was there memory enough?") from None
        if isinstance(message, Failed):
            raise SystemExit(f"{self.side.name} failed:\n{message.report}")
        return message


class StepTimes(pl.Callback):
    """Turns in Lightning's loop."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.turns.begin(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.turns.end(outputs["output"].losses.mean().item())


class StoredPairs(PreferenceData):
    """PreferenceData of pairs that are tokenised already, trained on in their order."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        super().__init__(str(folder), val_size=0, batch_size=batch_size)
        self.stored = folder

    def prepare_data(self) -> None:
        """Nothing is left to do."""

    def setup(self, stage: str) -> None:
        self.choosers, self.watchers = [], []
        self.train = self.val = stored_pairs(self.stored)
        self.training = TrainingRows(self.train, list(range(len(self.train))))
        self.training.configured()

    def train_dataloader(self) -> ResumableLoader:
        assert self.train is not None
        order = PairBatches(self.kept, self.batch_size)  # without a seed: in the order of the data
        return make_loader(self.train, order, self.num_workers)


def train_lit_pref(side: Side, task: Task, callbacks: Sequence[pl.Callback]) -> None:
    """What a user gets who changes no setting but those that both sides share."""
    quiet()
    optimizer: Any = partial(torch.optim.AdamW, lr=task.learning_rate, weight_decay=0.0, fused=True)
    reference = CachedModel(cache_dir=str(task.scratch)) if side.cached else FrozenModel()
    module = PreferenceModule(CausalLM(str(task.model)), DPO(BETA), reference, optimizer)
    defaults: dict[str, Any] = TRAINER_DEFAULTS
    trainer = PrefTrainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, limit_val_batches=0, gradient_clip_val=CLIP, callbacks=list(callbacks),
        precision="bf16-mixed" if side.precision == "bfloat16" else "32-true",
        default_root_dir=str(task.scratch), **defaults,
    )  # fmt: skip
    trainer.fit(module, datamodule=StoredPairs(task.pairs, task.batch))


@contextmanager
def workers(sides: Sequence[Side], *tasks: Task) -> Iterator[list[Worker]]:
    """A process for each side, built one after the other; each stands before its first step of the first task."""
    context = mp.get_context("spawn")
    started, processes = [], []
    try:
        for side in sides:
            connection, other = context.Pipe()
            processes.append(context.Process(target=_work, args=(other, side, tasks), daemon=True))
            processes[-1].start()
            other.close()
            started.append(Worker(side, connection))
            started[-1].wait()
        yield started
        for process in processes:
            process.join(30)  # who is done ends by itself
    finally:
        for process in processes:
            process.kill()  # Lightning's loop takes a polite end as advice
            process.join()


def in_turns(started: Sequence[Worker]) -> dict[Side, list[Step]]:
    """All steps of all sides, one step of each in turn; the order is reversed every other step."""
    steps: dict[Side, list[Step]] = {worker.side: [] for worker in started}
    number = 0
    while all(worker.waits for worker in started):
        for worker in started if number % 2 == 0 else started[::-1]:
            steps[worker.side].append(worker.step())
        number += 1
    if len({len(done) for done in steps.values()}) != 1 or any(worker.waits for worker in started):
        raise SystemExit("the sides took different numbers of steps")
    return steps


def beyond_held(step: Step, parameters: int) -> float:
    """Memory of a step beyond weights, gradients and the optimizer's moments, MB."""
    return step.memory - HELD_PER_WEIGHT * 4 * parameters / 2**20


def _held_before(model: nn.Module) -> float:
    """What the process holds before its first step; its peak counts anew from here."""
    for weight in model.parameters():
        weight.detach().sum()  # pages of a file that nobody has read yet are not resident
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that the process keeps would serve the first step unseen
    return resident("VmRSS", forget_peak=True)


def _work(connection: Connection, side: Side, tasks: Sequence[Task]) -> None:
    """Whole training runs of one side, one after the other."""
    # Progress bars and what libraries say are not part of the table.
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        for task in tasks:
            _train(connection, side, task)
        connection.send(Done())
    except BaseException:
        connection.send(Failed(traceback.format_exc()))
        raise


def _train(connection: Connection, side: Side, task: Task) -> None:
    torch.set_num_threads(task.threads)
    turns = Turns(connection, matmul_peak(getattr(torch, side.precision), task.peak_size), task.threads)
    if side.name == LIT_PREF:
        train_lit_pref(side, task, [StepTimes(turns)])
    else:
        from trl_side import train_trl  # only this process pays for it, in time and in memory

        train_trl(side, task, turns)
