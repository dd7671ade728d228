"""TRL's DPOTrainer as a side of a benchmark: the same ids in the same order as lit-pref, one step at a time.

What it needs of TRL 1.x: ids in columns prompt_ids, chosen_ids, rejected_ids; ``_prepare_dataset`` overridden, since
there is nothing to tokenise; ``_get_train_sampler`` overridden, for the order.
"""

from typing import Any

import torch
import trl
from datasets import Dataset
from torch.utils.data import SequentialSampler
from training_pairs import stored_pairs
from training_sides import BETA, CLIP, Side, Task, Turns
from transformers import AutoModelForCausalLM, TrainerCallback

from lit_pref.allocator import keep_large_blocks
from lit_pref.models import load_tokenizer


class Trainer(trl.DPOTrainer):
    """DPOTrainer on pairs that are tokenised already, in their order; remembers the loss of its last batch."""

    last_loss = float("nan")

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        pairs: Any = self.train_dataset if dataset is None else dataset
        return SequentialSampler(pairs)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        self.last_loss = loss.item()
        return loss


class StepTimes(TrainerCallback):
    """Turns in transformers' loop; its batches are collated before a step begins."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.trainer: Trainer | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.turns.begin(kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        self.turns.end(self.trainer.last_loss)


def train_trl(side: Side, task: Task, turns: Turns) -> None:
    """One epoch of the stored pairs."""
    if side.compacted:
        _compact()
    if side.tuned:
        keep_large_blocks()
    pairs = stored_pairs(task.pairs)
    rows = [{"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected} for p in pairs]
    model = AutoModelForCausalLM.from_pretrained(task.model, dtype=torch.float32)
    config = trl.DPOConfig(
        output_dir=str(task.scratch), use_cpu=True, num_train_epochs=1, per_device_train_batch_size=task.batch,
        beta=BETA, max_length=None, max_grad_norm=CLIP, bf16=side.precision == "bfloat16",
        precompute_ref_log_probs=side.cached, gradient_checkpointing=side.checkpointing,
        remove_unused_columns=False, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.learning_rate, weight_decay=0.0, fused=True)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    tokenizer = load_tokenizer(task.tokenizer)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # padding is masked, but TRL asks for its id
    times = StepTimes(turns)
    trainer = Trainer(
        model, args=config, train_dataset=Dataset.from_list(rows), optimizers=(optimizer, constant),
        processing_class=tokenizer, callbacks=[times],
    )  # fmt: skip
    times.trainer = trainer
    trainer.train()


def _compact() -> None:
    """Let TRL score response positions alone, as it does on CUDA; its kernel stays the one without Triton."""
    from trl.trainer import utils

    if not callable(getattr(utils, "_use_triton", None)):
        raise SystemExit(f"--peer compacted: trl {trl.__version__} decides elsewhere which positions it scores")
    utils._use_triton = lambda device: True
