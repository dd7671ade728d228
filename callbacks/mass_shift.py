"""Where probability mass goes: the first response token before and after training.

Displacement says that chosen responses lose mass; whether that is harmless depends on who gains it (Razin et al. 2025,
https://arxiv.org/abs/2410.08847, Tables 1 and 4).
"""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lit_pref.console import say
from lit_pref.scoring import first_token_probs


def largest_changes(before: Tensor, after: Tensor, count: int) -> tuple[list[tuple[int, float]], ...]:
    """Token ids whose mean probability rose most and fell most, each with its change; ``count`` at most of each.

    Args:
        before: (V,) mean probabilities.
        after: (V,) mean probabilities.
        count: how many of each.
    """
    change = (after - before).double()
    order = change.argsort(descending=True, stable=True).tolist()
    risen = [(token, float(change[token])) for token in order[:count] if change[token] > 0]
    fallen = [(token, float(change[token])) for token in order[::-1][:count] if change[token] < 0]
    return risen, fallen


class MassShift(pl.Callback):
    """Measures the mean distribution of the first response token on validation prompts, and says what changed.

    Args:
        max_batches: validation batches that are measured, at one more forward pass each; the same ones every time.
        count: tokens named of those that rose, and of those that fell.
    """

    def __init__(self, max_batches: int = 16, count: int = 3) -> None:
        self.max_batches = max_batches
        self.count = count
        self.before: Tensor | None = None  # (V,)
        self.after: Tensor | None = None  # (V,)
        self._sum: Tensor | None = None  # (V + 1,), the last entry counts prompts

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = state_dict["before"]

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *args: Any,
    ) -> None:
        if batch_idx >= self.max_batches or trainer.sanity_checking:
            return
        with trainer.precision_plugin.val_step_context():
            probs = first_token_probs(pl_module.policy, batch)  # type: ignore[arg-type] # (B, V)
        real = batch.real.unsqueeze(-1)
        total = torch.cat([torch.where(real, probs, 0.0), real.to(probs.dtype)], -1).sum(0)  # (V + 1,)
        self._sum = total if self._sum is None else self._sum + total

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._sum is None:
            return
        total = trainer.strategy.reduce(self._sum, reduce_op="sum").cpu()
        self._sum = None
        self.after = total[:-1] / total[-1]
        if self.before is None:
            self.before = self.after

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.before is not None and self.after is not None:
            tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
            risen, fallen = largest_changes(self.before, self.after, self.count)
            to, away = ([_named(tokenizer.decode([token]), change) for token, change in c] for c in (risen, fallen))
            if to and away:
                say(f"Of the first response token, mass moved to {_listed(to)}, away from {_listed(away)}.")


def _named(text: str, change: float) -> str:
    return f"{text!r} ({change:+.2f})"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
