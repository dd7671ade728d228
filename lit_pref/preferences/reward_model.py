"""Ties decided by a reward model of transformers. Knows nothing about verdicts or pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from ..data.rows import Row
from ..encoding import Encoder
from ..errors import ConfigError, SetupError
from ..models import load_tokenizer, locate
from ..pretrained import pretrained
from ..rendering import Template, Unusable
from .tie_breaks import Contestant, TieBreak

#: Room that is left for tokens where neither model nor tokenizer says how much there is.
MOST_TOKENS = 8192


class RewardModel(TieBreak):
    """The response to which a reward model gives the higher number wins.

    Any sequence-classification model with one output. Where its tokenizer has a chat template, prompt and response are
    a dialogue; else they are the two texts of a pair. Models that compare two responses at once (PairRM) are not
    supported. Longer inputs are cut at the response's end.

    Args:
        model: folder or hub name.
        max_length: most tokens of an input; None: what the model's config says, at most 8192.
        batch_size: inputs at once.
        dtype: precision of the weights.
        revision: branch, tag or commit on the hub.
        trust_remote_code: let the model's repository run its own code on this machine.
    """

    def __init__(
        self,
        model: str,
        max_length: int | None = None,
        batch_size: int = 8,
        dtype: str = "float32",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if batch_size < 1 or (max_length is not None and max_length < 8):
            raise ConfigError("RewardModel: batch_size has to be at least 1 and max_length at least 8.")
        if dtype not in ("float32", "bfloat16", "float16"):
            raise ConfigError(f"RewardModel: there is no dtype {dtype!r}; choices: float32, bfloat16, float16")
        self.model, self.max_length, self.batch_size, self.dtype = model, max_length, batch_size, dtype
        self.revision, self.trust_remote_code = revision, trust_remote_code
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

    def prepare(self, device: torch.device) -> None:
        if self._loaded is None:
            options: dict[str, Any] = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
            try:
                model = pretrained(
                    "the reward model", self.model, AutoModelForSequenceClassification, locate(self.model),
                    dtype=getattr(torch, self.dtype), **options,
                )  # fmt: skip
            except (OSError, ValueError) as error:
                if isinstance(error, ConfigError):
                    raise
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise SetupError(
                    f"the reward model {self.model!r} could not be loaded: {reason}\n"
                    "  Fix: give a local folder with the files of a transformers model, or a hub name while online."
                ) from error
            self._check(model)
            tokenizer = load_tokenizer(self.model, self.revision, self.trust_remote_code)
            if model.config.pad_token_id is None:
                model.config.pad_token_id = _pad(tokenizer)
            self._loaded = (model.eval().requires_grad_(False), tokenizer)
        self._loaded[0].to(device)  # type: ignore[arg-type]

    def release(self) -> None:
        self._loaded = None

    @torch.inference_mode()
    def scores(self, contestants: Sequence[Contestant]) -> list[float | None]:
        if self._loaded is None:
            self.prepare(torch.device("cpu"))
        assert self._loaded is not None
        model, tokenizer = self._loaded
        inputs = [self._ids(contestant, tokenizer) for contestant in contestants]
        order = sorted(range(len(inputs)), key=lambda i: (-len(inputs[i]["input_ids"]), i))
        found: list[float | None] = [None] * len(inputs)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            logits = model(**_padded([inputs[i] for i in batch], _pad(tokenizer), model.device)).logits
            for i, value in zip(batch, logits.float()[:, 0].tolist(), strict=True):
                found[i] = value if value == value else None
        return found

    def _ids(self, contestant: Contestant, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
        """Ids of one input; text that spells a special token is plain text."""
        prompt, response = contestant
        room = self.max_length or self._room(tokenizer)
        if tokenizer.chat_template:
            turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            answer = [{"role": "assistant", "content": response}]
            encoder = Encoder(tokenizer, Template(format="chat"), room)
            try:
                rendered = encoder.render(Row(0, "", turns, answer, answer))
            except Unusable as reason:
                fix = "use a reward model whose chat template takes this prompt"
                raise ConfigError(f"RewardModel: {reason}.\n  Fix: {fix}.") from reason
            ids = encoder.prompt(rendered.prompt) + encoder.ids(rendered.chosen)
            return {"input_ids": ids[:room], "attention_mask": [1] * min(len(ids), room)}
        text = prompt if isinstance(prompt, str) else "\n".join(turn["content"] for turn in prompt)
        options: dict[str, Any] = {"truncation": "only_second", "max_length": room, "split_special_tokens": True}
        encoded = tokenizer(text, response, verbose=False, **options)
        names = ("input_ids", "attention_mask", "token_type_ids")
        return {name: list(encoded[name]) for name in names if name in encoded}

    def _room(self, tokenizer: PreTrainedTokenizerBase) -> int:
        assert self._loaded is not None
        positions = getattr(self._loaded[0].config, "max_position_embeddings", None) or MOST_TOKENS
        return int(min(positions, tokenizer.model_max_length, MOST_TOKENS))

    def _check(self, model: PreTrainedModel) -> None:
        if model.config.num_labels != 1:
            raise ConfigError(
                f"RewardModel: {self.model!r} has {model.config.num_labels} outputs, but a reward model has one.\n"
                "  Fix: give a model that was trained to score responses."
            )


def _padded(inputs: list[dict[str, list[int]]], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Padded on the right; causal models look for the last token that is no padding."""
    width = max(len(row["input_ids"]) for row in inputs)
    fill = {"input_ids": pad, "attention_mask": 0, "token_type_ids": 0}
    return {
        name: torch.tensor([row[name] + [fill[name]] * (width - len(row[name])) for row in inputs], device=device)
        for name in inputs[0]
    }


def _pad(tokenizer: PreTrainedTokenizerBase) -> int:
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id or 0) if pad is None else int(pad)
