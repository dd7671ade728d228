"""Judges by asking a causal language model of transformers. Knows nothing of what the template says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Literal

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from ..errors import ConfigError
from ..models import CausalLM
from .base import Item, Label, Verdict, slug
from .label_tokens import label_tokens, read_log_probs
from .loading import tokenizer_digest
from .model_judge import ModelJudge
from .parsing import NOT_FINITE, VERSION, check_labels, parse_label
from .prompting import Template
from .questions import Questions

Decide = Literal["auto", "log_probs", "greedy"]


class GenerativeJudge(ModelJudge):
    """Asks a language model for a label.

    Where every answer of `labels` is a single token at the place of the answer, their log-probabilities are compared:
    nothing is generated and nothing can fail to parse. Else the model answers greedily and the answer has to begin
    with one of them. Request and response are data between tags (see prompting.py), what they spell of special tokens
    is plain text, and only the response is shortened, in its middle.

    Args:
        model: folder, hub name or tiny-world model, or a CausalLM with dtype, revision and so on.
        template: the question, with {prompt}, {response} and, in the names of tags, {nonce}; None: our own.
        template_file: a file that holds it.
        labels: what each answer stands for.
        decide: how an answer is found; "auto" compares log-probabilities where it can.
        least_mass: with log-probabilities, the answers' probability together below which the verdict is unparseable:
            the model wanted to say something else.
        chat_template: put the question into the tokenizer's chat template, where it has one, as a user's turn.
        max_new_tokens: most tokens of a generated answer.
        max_length: most tokens of a question; None: what the model's config says.
        batch_size: questions at once.
    """

    failed = "the model failed"
    _loaded: tuple[PreTrainedModel, Questions, dict[str, list[int]] | None] | None = None

    def __init__(
        self,
        model: str | CausalLM,
        template: str | None = None,
        template_file: str | None = None,
        labels: dict[str, Label] | None = None,
        decide: Decide = "auto",
        least_mass: float = 0.01,
        chat_template: bool = True,
        max_new_tokens: int = 16,
        max_length: int | None = None,
        batch_size: int = 8,
    ) -> None:
        if batch_size < 1 or max_new_tokens < 1 or not 0 <= least_mass < 1:
            raise ConfigError(
                "GenerativeJudge: batch_size and max_new_tokens have to be at least 1, least_mass from 0 to below 1."
            )
        self.model = CausalLM(model) if isinstance(model, str) else model
        self.template = Template(template, template_file)
        self.labels: dict[str, Label] = labels or {"0": "refusal", "1": "compliance"}
        check_labels(type(self).__name__, self.labels)
        self.decide, self.least_mass, self.chat_template = decide, least_mass, chat_template
        self.max_new_tokens, self.max_length, self.batch_size = max_new_tokens, max_length, batch_size
        self.name = f"{slug(self.model.path)}_{self.template.hash[:8]}"

    def facts(self) -> dict[str, Any]:
        tokenizer = self.model.tokenizer()
        return {
            "judge": "generative", "parser": VERSION, "labels": self.labels, "answers": list(self.labels),
            "template": self.template.hash, "model": self.model.fingerprint(),
            "chat_template": self.chat_template and tokenizer.chat_template,
            "tokenizer": tokenizer_digest(tokenizer), "decide": self.decide, "least_mass": self.least_mass,
            "max_new_tokens": self.max_new_tokens, "max_length": self.max_length, "decoding": "greedy",
            "trust_remote_code": self.model.trust_remote_code,
        }  # fmt: skip

    def _load(self) -> tuple[PreTrainedModel, Questions, dict[str, list[int]] | None]:
        tokenizer = self.model.tokenizer()
        model = self.model.build_frozen()
        limit = self.max_length or getattr(model.config, "max_position_embeddings", None) or 8192
        room = limit if self.max_length else limit - self.max_new_tokens
        questions = Questions(tokenizer, self.template, self.chat_template, room)
        model.generation_config = _greedy(model, tokenizer)
        answers = None if self.decide == "greedy" else label_tokens(questions, list(self.labels))
        if answers is None and self.decide == "log_probs":
            raise ConfigError(
                f"{type(self).__name__}: decide is log_probs, but {', '.join(self.labels)} are not each one token "
                f"after the template, by the tokenizer of {self.model.path!r}\n"
                "  Fix: use answers of one token, such as digits, or decide: greedy."
            )
        return model, questions, answers

    def _length(self, item: Item) -> int:
        return len(item.prompt) + len(item.response)

    def reread(self, raw: str) -> Verdict | None:
        found = read_log_probs(raw, self.labels, self.least_mass)
        if found is None:
            label, reason = parse_label(raw, self.labels)
            return self.verdict(label, raw, reason)
        return self.verdict(found.label, raw, found.reason, found.score)

    @torch.inference_mode()
    def _judge(self, items: list[Item]) -> list[Verdict]:
        assert self._loaded is not None
        model, questions, answers = self._loaded
        encoded = [questions.encode(item) for item in items]
        fitting = [question for question in encoded if question.ids]
        raws: Iterator[str | None] = iter(())
        if fitting:
            raws = iter(_log_probs(model, fitting, answers) if answers else self._generate(fitting))
        verdicts = []
        for question in encoded:
            if not question.ids:
                verdicts.append(self.verdict("unparseable", reason=question.note))
                continue
            raw = next(raws)
            verdict = self.verdict("error", reason=NOT_FINITE) if raw is None else self.reread(raw)
            assert verdict is not None
            verdicts.append(verdict._replace(reason="; ".join(filter(None, (verdict.reason, question.note)))))
        return verdicts

    def _generate(self, questions: list[Any]) -> list[str | None]:
        """For each question what the model writes; None where it does not compute numbers."""
        assert self._loaded is not None
        model, asked, _ = self._loaded
        inputs = _left_padded(questions, model)
        watch = _NotFinite(len(questions), model.device)
        out = model.generate(  # type: ignore[operator]
            **inputs, max_new_tokens=self.max_new_tokens, logits_processor=LogitsProcessorList([watch])
        )
        new = out[:, inputs["input_ids"].shape[1] :]  # only what was written: the question holds the answers too
        texts = asked.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [None if lost else str(text) for text, lost in zip(texts, watch.rows.tolist(), strict=True)]


class _NotFinite(LogitsProcessor):
    """Changes nothing, and remembers in which rows a number was none: the greatest of such is the first token."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.rows = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.rows |= (scores.isnan() | scores.isposinf()).any(-1)
        return scores


def _log_probs(model: PreTrainedModel, questions: list[Any], answers: dict[str, list[int]]) -> list[str | None]:
    """For each question `answer=log-probability` of every answer."""
    inputs = _left_padded(questions, model)
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)  # (B, T)
    options: dict[str, Any] = {"position_ids": positions, "logits_to_keep": 1}
    taken = inspect.signature(model.forward).parameters
    logits = model(**inputs, **{k: v for k, v in options.items() if k in taken}).logits[:, -1]  # (B, V)
    logps = logits.float().log_softmax(-1)
    columns = torch.stack([logps[:, ids].logsumexp(-1) for ids in answers.values()], -1)  # (B, L)
    return [" ".join(f"{a}={p:.6f}" for a, p in zip(answers, row, strict=True)) for row in columns.tolist()]


def _left_padded(questions: list[Any], model: PreTrainedModel) -> dict[str, torch.Tensor]:
    width = max(len(question.ids) for question in questions)
    pad = int(model.generation_config.pad_token_id)
    ids = torch.tensor([[pad] * (width - len(q.ids)) + q.ids for q in questions])  # (B, T)
    mask = torch.tensor([[0] * (width - len(q.ids)) + [1] * len(q.ids) for q in questions])  # (B, T)
    return {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}


def _greedy(model: PreTrainedModel, tokenizer: Tokenizer) -> GenerationConfig:
    """Greedy, and nothing of the sampling, penalties or bans that the model's own files may ask for."""
    own = getattr(model.generation_config, "eos_token_id", None)
    ends = own if own is not None else tokenizer.eos_token_id
    first = ends[0] if isinstance(ends, list) else ends
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else first
    return GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=0 if pad is None else pad)
