"""From a row of text to the three texts that are tokenised: prompt, chosen, rejected. Knows nothing about token ids.

Rows of strings go through a plain template; rows of chat messages through the tokenizer's chat template.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerBase

from .data.rows import Message, Row
from .errors import ConfigError

Spans = list[tuple[int, int]]


class Part(NamedTuple):
    """One text to tokenise.

    Attributes:
        text: the text.
        spelled: where it holds data that spell special tokens, and so must be tokenised as plain text there; empty
            for nearly all rows.
        ended: whether the template has ended the turn with a special token.
    """

    text: str
    spelled: Spans
    ended: bool = False


class Rendered(NamedTuple):
    """A row as texts."""

    row: Row
    prompt: Part
    chosen: Part
    rejected: Part


class Unusable(Exception):  # noqa: N818, a verdict on one row
    """The chat template cannot render a row; says why."""


@dataclass(frozen=True)
class Template:
    """How text becomes a prompt and a response.

    Attributes:
        format: "auto" renders strings by ``plain`` and chat messages by the chat template; "chat" also wraps
            strings into a user and an assistant turn.
        plain: what surrounds a prompt that is a string; must contain {prompt} once. Responses are taken as they
            are and ended by the tokenizer's end-of-sequence token.
        chat: a Jinja chat template in place of the tokenizer's own. A chat response ends with the special token
            that the template writes after it; where it writes none, with the end-of-sequence token.
    """

    format: Literal["auto", "chat"] = "auto"
    plain: str = "{prompt}"
    chat: str | None = None

    def __post_init__(self) -> None:
        if self.plain.count("{prompt}") != 1:
            raise ValueError(f"data.template.plain is {self.plain!r}, but must contain {{prompt}} exactly once")


class Renderer:
    """Renders rows for one tokenizer.

    Args:
        tokenizer: gives the chat template and the special tokens.
        template: the user's choices.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template) -> None:
        self.tokenizer = tokenizer
        self.template = template
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        longest_first = sorted(special, key=len, reverse=True)
        self.special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __call__(self, row: Row) -> Rendered:
        """The row's texts; Unusable where the chat template cannot give them."""
        strings = all(isinstance(text, str) for text in (row.prompt, row.chosen, row.rejected))
        return self._plain(row) if strings and self.template.format == "auto" else self._chat(row)

    def _plain(self, row: Row) -> Rendered:
        prompt, before = str(row.prompt), self.template.plain.index("{prompt}")
        text = self.template.plain.replace("{prompt}", prompt)
        spelled = [(before, before + len(prompt))] if self.special.search(prompt) else []
        sides = [
            Part(side, [(0, len(side))] if self.special.search(side) else [])
            for side in (str(row.chosen), str(row.rejected))
        ]
        return Rendered(row, Part(text, spelled), *sides)

    def _chat(self, row: Row) -> Rendered:
        turns = _turns(row.prompt, "user")
        prompt = self._apply(turns, add_generation_prompt=True)
        spelled = self._spelled(turns, prompt, add_generation_prompt=True)
        sides = [self._response(turns, prompt, _turns(side, "assistant")) for side in (row.chosen, row.rejected)]
        return Rendered(row, Part(prompt, spelled), *sides)

    def _response(self, turns: list[Message], prompt: str, response: list[Message]) -> Part:
        full = self._apply(turns + response, add_generation_prompt=False)
        if not full.startswith(prompt):
            raise Unusable("the chat template renders the prompt differently when a response follows it")
        spelled = self._spelled(turns + response, full, add_generation_prompt=False)
        spelled = [(a - len(prompt), b - len(prompt)) for a, b in spelled if a >= len(prompt)]
        text = full[len(prompt) :]
        stripped = text.rstrip()
        last = max((match.span() for match in self.special.finditer(stripped)), default=(0, 0))
        # A token that the data spell ends no turn, and white space behind the one that does is nobody's prediction.
        ended = 0 < last[1] == len(stripped) and not any(a <= last[0] < b for a, b in spelled)
        return Part(stripped if ended else text, spelled, ended)

    def _spelled(self, messages: list[Message], rendered: str, **options: Any) -> Spans:
        """Where contents stand in ``rendered`` if any spells a special token: found by rendering marks instead."""
        if not any(self.special.search(message["content"]) for message in messages):
            return []
        marks = [f"\ue000{i}\ue001" for i in range(len(messages))]  # characters for private use
        frame = self._apply([{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)], **options)
        spans, cursor, position = [], 0, 0
        for mark, message in zip(marks, messages, strict=True):
            at = frame.find(mark, cursor)
            position += at - cursor
            # Templates may strip what they are given.
            content = next(
                (c for c in (message["content"], message["content"].strip()) if rendered.startswith(c, position)), None
            )
            if at < 0 or content is None:
                break
            spans.append((position, position + len(content)))
            position += len(content)
            cursor = at + len(mark)
        if len(spans) < len(messages) or rendered[position:] != frame[cursor:]:
            raise Unusable("its text spells a special token, and the chat template changes the text")
        return spans

    def _apply(self, messages: list[Message], **options: Any) -> str:
        if self.template.chat is None and self.tokenizer.chat_template is None:
            raise ConfigError(
                "the data hold chat messages, but the tokenizer has no chat template.\n"
                "  Fix: give one as data.template.chat (Jinja), or use the tokenizer of an instruction-tuned model."
            )
        options |= {"chat_template": self.template.chat, "tokenize": False}
        try:
            return str(self.tokenizer.apply_chat_template(messages, **options))
        except TemplateSyntaxError as error:
            raise ConfigError(f"the chat template is no Jinja: {error}\n  Fix: correct data.template.chat.") from error
        except TemplateError as error:
            raise Unusable(f"the chat template refuses it: {error}") from error


def _turns(text: str | list[Message], role: str) -> list[Message]:
    return text if isinstance(text, list) else [{"role": role, "content": text}]
