"""The same model on the same batches by TRL's DPOTrainer and by ours: losses and gradients of 20 steps."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_pref.batch import Pair
from lit_pref.data.loading import make_loader
from lit_pref.models import CausalLM
from lit_pref.module import PreferenceModule
from lit_pref.order import PairBatches
from objectives import DPO, IPO, Objective

STEPS, BATCH, LR = 20, 4, 3e-3
Record = list[tuple[float, list[torch.Tensor]]]


class Recorder(pl.Callback):
    """Loss and gradients of every optimizer step."""

    def __init__(self) -> None:
        self.steps: Record = []
        self.gradients: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradients = [p.grad.clone() for p in pl_module.policy.parameters()]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps.append((outputs["output"].losses.mean().item(), self.gradients))


def ours(folder: Path, pairs: list[Pair], objective: Objective) -> Record:
    module = PreferenceModule(
        CausalLM(str(folder)), objective, optimizer=lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.0)
    )
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[recorder], use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, make_loader(pairs, PairBatches(range(len(pairs)), BATCH), 0))
    return recorder.steps


def theirs(folder: Path, pairs: list[Pair], loss_type: str, output: Path) -> Record:
    trl = pytest.importorskip("trl", reason="trl is not installed")
    datasets = pytest.importorskip("datasets")
    steps: Record = []

    class Trainer(trl.DPOTrainer):  # type: ignore[misc, name-defined]
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset  # it holds ids already: both sides train on the same tokens

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(model, inputs, *args, **kwargs)
            steps.append((loss.item(), [p.grad.clone() for p in model.parameters()]))
            return loss

    rows = [{"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected} for p in pairs]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = trl.DPOConfig(
        output_dir=str(output), per_device_train_batch_size=BATCH, max_steps=STEPS, beta=0.1, loss_type=[loss_type],
        bf16=False, gradient_checkpointing=False, max_grad_norm=0.0, report_to=[], save_strategy="no", use_cpu=True,
        disable_tqdm=True, max_length=None, remove_unused_columns=False, logging_strategy="no",
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    Trainer(
        model, args=config, train_dataset=datasets.Dataset.from_list(rows), optimizers=(optimizer, constant),
        processing_class=AutoTokenizer.from_pretrained(folder),
        ref_model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
    ).train()  # fmt: skip
    return steps


@pytest.mark.parametrize(
    ("objective", "loss_type"), [(DPO(0.1), "sigmoid"), (IPO(0.1, "mean"), "ipo")], ids=["DPO", "IPO"]
)
def test_losses_and_gradients_of_twenty_steps_equal_trls(
    objective: Objective, loss_type: str, model_folder: Path, random_pairs: Any, tmp_path: Path
) -> None:
    pytest.importorskip("trl", reason="trl is not installed")
    pairs = random_pairs(4 * BATCH) * (STEPS // 4)
    mine, other = ours(model_folder, pairs, objective), theirs(model_folder, pairs, loss_type, tmp_path)
    assert len(mine) == len(other) == STEPS
    assert abs(mine[0][0] - mine[-1][0]) > 0.01, "the loss must move, or equality means nothing"
    for (my_loss, my_gradients), (their_loss, their_gradients) in zip(mine, other, strict=True):
        assert my_loss == pytest.approx(their_loss, rel=1e-5, abs=1e-5)
        for a, b in zip(my_gradients, their_gradients, strict=True):
            assert (a - b).norm() <= 1e-5 * max(1.0, b.norm().item())
