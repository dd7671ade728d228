"""Where probability mass goes: distributions of response tokens before and after training, and who was told to gain.

Displacement says that chosen responses lose mass; whether that is harmless depends on who gains it (Razin et al. 2025,
https://arxiv.org/abs/2410.08847, Tables 1 and 4, Theorem 5).
"""

import json
import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from lit_pref.console import say
from lit_pref.processes import Processes
from lit_pref.sharding import SHARDING, whole
from lit_pref.token_geometry import predicted_gains
from lit_pref.token_groups import PARTS, grouped_tokens, read_groups
from lit_pref.whole_file import write_text

from .mass_record import SMALLEST, finite, group_sentence, section
from .mass_sums import MassMeans, mass_means, mass_sums

MASS = "mass.json"
#: Of the file; it changes where what is written there changes its meaning.
FORMAT = 1
#: Fields of MassMeans that are remembered from the first validation.
STARTS = ("first", "first_logps", "overall", "overall_logps", "parts")


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
    """Measures the mean distributions of response tokens on validation pairs, and compares them with the first ones.

    Logs ``mass/TOKEN/val`` for every first response token that was among those that changed most, ``mass/chosen/val``
    and ``mass/rejected/val``, the mean probabilities of the pairs' own first tokens and, with groups,
    ``mass/benign/val`` (other words of the chosen one's group), ``mass/catastrophic/val`` (words of other groups) and
    ``mass/other/val``. ``mass.json`` in the run's folder says which tokens gained and lost most, at the first response
    position and over all positions of chosen responses, and how well <W_z, W_y+ - W_y-> told that before training, W
    the output embedding. "Before" is the first validation. The run closes with a sentence or two.

    Args:
        max_batches: validation batches of ``data.val_batch_size`` pairs that are measured, at one more forward pass
            each; the same ones every time.
        count: tokens named of those that rose, and of those that fell.
        groups: words of like meaning, {name: [word, ...], ...} or "world:agreement" for those of the tiny world. A
            word stands for its first token, alone or behind a space.
        top_k: tokens of each kind in mass.json.
    """

    def __init__(
        self,
        max_batches: int = 16,
        count: int = 3,
        groups: str | dict[str, list[str]] | None = None,
        top_k: int = 20,
    ) -> None:
        self.max_batches = max_batches
        self.count = count
        self.groups = read_groups(groups)
        self.top_k = top_k
        self.before: dict[str, Tensor] = {}  # fields of MassMeans at the first validation, and what was told of gains
        self.after: MassMeans | None = None  # at the last one
        self.named: list[int] = []  # tokens that have a curve
        self._grouped: dict[int, int] | None = None  # token -> number of its group
        self._sum: Tensor | None = None  # of mass_sums, whose last entry counts prompts

    def state_dict(self) -> dict[str, Any]:
        start = {name: values for name, values in self.before.items() if name != "first"}
        return {"before": self.before.get("first"), "named": self.named, "start": start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        first = state_dict["before"]
        self.before = {**({} if first is None else {"first": first}), **state_dict.get("start", {})}
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
        if trainer.sanity_checking or (batch := self._measured(trainer, batch, batch_idx)) is None:
            return
        if self._grouped is None:
            tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
            self._grouped = grouped_tokens(self.groups or {}, tokenizer)
        processes, policy = Processes.of(trainer), pl_module.policy
        with processes.arithmetic():
            total = mass_sums(policy, batch, self._grouped, processes.wide)  # type: ignore[arg-type]
        self._sum = total if self._sum is None else self._sum + total

    def _measured(self, trainer: pl.Trainer, batch: Any, batch_idx: int) -> Any:
        """The batch, of which only pairs count that are among the first; None where no process has one of them.

        Calls by tokens hold other numbers of pairs, but the pairs that are measured stay the same.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if data.tokens_per_batch is None:
            return batch if batch_idx < self.max_batches else None
        first = data.val_positions[: self.max_batches * data.val_batch_size * trainer.world_size]
        count = int(np.isin(batch.rows.cpu().numpy(), data.val.rows[first]).sum())
        processes = Processes.of(trainer)
        if not processes.total(torch.tensor([count], device=processes.device)).item():
            return None
        rewards = None if batch.rewards is None else batch.rewards[:, :count]
        return batch._replace(rows=batch.rows[:count], rewards=rewards)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._sum is None:
            return
        self.after = mass_means(trainer.strategy.reduce(self._sum, reduce_op="sum"))
        self._sum = None
        self._begin(trainer, pl_module, self.after)
        self._log(trainer, self.before["first"], self.after.first)
        parts = self.after.parts.tolist()[: None if self.groups else 2]
        scalars = {f"mass/{name}/val": mass for name, mass in zip(PARTS, parts, strict=False)}
        for logger in trainer.loggers:
            logger.log_metrics(scalars, trainer.global_step)
        pl_module.log_dict(scalars, logger=False)  # for monitors such as ModelCheckpoint's
        if trainer.state.fn == "fit" and trainer.is_global_zero:
            text = json.dumps(self._record(trainer, self.after), indent=1)
            write_text(Path(trainer.default_root_dir) / MASS, text + "\n")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Said last, when a progress bar has been taken down."""
        if stage != "fit" or not self.before or self.after is None:
            return
        if not self.after.first.isfinite().all():
            return  # the run diverged; Displacement says so
        say(self._first_sentence(trainer, self.before["first"], self.after.first))
        if self.groups:
            say(group_sentence(self.before["parts"].tolist(), self.after.parts.tolist()))

    def _first_sentence(self, trainer: pl.Trainer, before: Tensor, after: Tensor) -> str:
        risen, fallen = largest_changes(before, after, self.count)
        if not risen and not fallen:
            return f"Of the first response token, no token's mean probability moved by {SMALLEST} or more."
        change = after - before
        to, away = (_listed([f"{self._text(trainer, t)!r} ({change[t]:+.2f})" for t in s]) for s in (risen, fallen))
        return f"Of the first response token, mass moved to {to}, away from {away}."

    def _begin(self, trainer: pl.Trainer, pl_module: Any, now: MassMeans) -> None:
        """Remember the first validation, and what the output embedding tells at that moment."""
        if "overall" not in self.before:
            gains = self._gains(trainer, pl_module.policy, now.contrast)
            now_too = {name: getattr(now, name) for name in STARTS}
            self.before = {**now_too, **({} if gains is None else {"predicted": gains}), **self.before}

    def _gains(self, trainer: pl.Trainer, policy: Any, contrast: Tensor) -> Tensor | None:
        """(2, V) of first tokens and of whole responses; None where no process has the whole output embedding."""
        head = policy.get_output_embeddings()
        if type(trainer.strategy).__name__ in SHARDING or getattr(head, "weight", None) is None:
            say("The output embedding cannot be read whole, so mass.json does not say which tokens were told to gain.")
            return None
        with whole(head):
            return torch.stack([predicted_gains(head.weight, row) for row in contrast]).cpu()

    def _record(self, trainer: pl.Trainer, now: MassMeans) -> dict[str, Any]:
        """What mass.json holds."""

        def part(name: str, row: int, positions: int) -> dict[str, Any]:
            probs, logps = ((self.before[n], getattr(now, n)) for n in (name, f"{name}_logps"))
            told = self.before["predicted"][row] if "predicted" in self.before else None
            return section(probs, logps, told, positions, self.top_k, lambda token: self._text(trainer, token))

        masses = zip(PARTS, self.before["parts"].tolist(), now.parts.tolist(), strict=True)
        return {
            "format": FORMAT,
            "step": trainer.global_step,
            "first": part("first", 0, now.prompts),
            "overall": part("overall", 1, now.positions),
            "groups": self.groups,
            "mass": {name: [finite(a), finite(b)] for name, a, b in masses} if self.groups else None,
        }

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
        plain = re.fullmatch(r"[ 0-9A-Za-z]+", text) and tag not in tags.values() and text not in PARTS
        tags[token] = tag if plain else f"mass/token_{token}/val"
    return tags


def _listed(names: list[str]) -> str:
    if not names:
        return "many tokens, a little each"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
