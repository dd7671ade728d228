"""Where probability mass goes: the first response token before and after training.

Displacement says that chosen responses lose mass; whether that is harmless depends on who gains it (Razin et al. 2025,
https://arxiv.org/abs/2410.08847, Tables 1 and 4).
"""

import re
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lit_pref.console import say
from lit_pref.scoring import first_token_probs

#: Changes of mean probability below this are not named.
SMALLEST = 0.01


def largest_changes(before: Tensor, after: Tensor, count: int) -> tuple[list[int], list[int]]:
    """Tokens whose mean probability rose most and fell most, by at least ``SMALLEST``; ``count`` at most of each.

    Args:
        before: (V,) mean probabilities.
        after: (V,) mean probabilities.
        count: how many of each.
    """
    change = (after - before).double()
    order = change.argsort(descending=True, stable=True).tolist()
    risen = [token for token in order[:count] if change[token] >= SMALLEST]
    fallen = [token for token in order[::-1][:count] if change[token] <= -SMALLEST]
    return risen, fallen


class MassShift(pl.Callback):
    """Measures the mean distribution of the first response token on validation prompts.

    Logs ``mass/TOKEN/val`` for every token that was among those that changed most, and closes the run with a sentence.

    Args:
        max_batches: validation batches that are measured, at one more forward pass each; the same ones every time.
        count: tokens named of those that rose, and of those that fell.
    """

    def __init__(self, max_batches: int = 16, count: int = 3) -> None:
        self.max_batches = max_batches
        self.count = count
        self.before: Tensor | None = None  # (V,) at the first validation
        self.after: Tensor | None = None  # (V,) at the last one
        self.named: list[int] = []  # tokens that have a curve
        self._sum: Tensor | None = None  # (V + 1,), the last entry counts prompts

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before, "named": self.named}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = state_dict["before"]
        self.named = state_dict["named"]

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
            probs = first_token_probs(pl_module.policy, batch)  # type: ignore[arg-type]  # (M, V)
        total = torch.cat([probs, probs.new_ones(len(probs), 1)], -1).sum(0)  # (V + 1,)
        self._sum = total if self._sum is None else self._sum + total

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._sum is None:
            return
        total = trainer.strategy.reduce(self._sum, reduce_op="sum").cpu()
        self._sum = None
        self.after = total[:-1] / total[-1]
        if self.before is None:
            self.before = self.after
        self._log(trainer, self.before, self.after)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Said last, when a progress bar has been taken down."""
        if stage != "fit" or self.before is None or self.after is None:
            return
        if not self.after.isfinite().all():
            return  # the run diverged; Displacement says so
        risen, fallen = largest_changes(self.before, self.after, self.count)
        if not risen and not fallen:
            say(f"Of the first response token, no token's mean probability moved by {SMALLEST} or more.")
            return
        change = self.after - self.before
        to, away = (_listed([f"{self._text(trainer, t)!r} ({change[t]:+.2f})" for t in s]) for s in (risen, fallen))
        say(f"Of the first response token, mass moved to {to}, away from {away}.")

    def _log(self, trainer: pl.Trainer, before: Tensor, after: Tensor) -> None:
        """A curve for every token that ever stood out, from its first value on."""
        new = [t for side in largest_changes(before, after, self.count) for t in side if t not in self.named]
        self.named += new
        names = _tags({token: self._text(trainer, token) for token in self.named})
        for logger in trainer.loggers:
            if new:
                logger.log_metrics({names[token]: float(before[token]) for token in new}, 0)
            if self.named:
                logger.log_metrics({names[t]: float(after[t]) for t in self.named}, trainer.global_step)

    def _text(self, trainer: pl.Trainer, token: int) -> str:
        return str(trainer.datamodule.tokenizer.decode([token]))  # type: ignore[attr-defined]


def _tags(texts: dict[int, str]) -> dict[int, str]:
    """``mass/_Yes/val`` for " Yes"; tokens that are no plain words, or look like another, are named by number."""
    tags: dict[int, str] = {}
    for token, text in texts.items():
        tag = f"mass/{text.replace(' ', '_')}/val"
        plain = re.fullmatch(r"[ 0-9A-Za-z]+", text) and tag not in tags.values()
        tags[token] = tag if plain else f"mass/token_{token}/val"
    return tags


def _listed(names: list[str]) -> str:
    if not names:
        return "many tokens, a little each"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
