"""From a row of text to the three texts that are tokenised: prompt, chosen, rejected. Knows nothing about token ids.

Rows of strings go through a plain template; rows of chat messages through the tokenizer's chat template.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from .data.rows import Message, Row
from .errors import ConfigError


class Part(NamedTuple):
    """One text to tokenise, and the pieces of it that came from the data rather than from a template."""

    text: str
    contents: list[str]


class Rendered(NamedTuple):
    """A row as texts; ``append_eos`` says that no template has ended the responses yet."""

    row: Row
    prompt: Part
    chosen: Part
    rejected: Part
    append_eos: bool


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

    def __call__(self, row: Row) -> Rendered | str:
        """The row's texts, or a sentence saying why the chat template cannot give them."""
        if isinstance(row.prompt, str) and isinstance(row.chosen, str) and self.template.format == "auto":
            prompt = Part(self.template.plain.replace("{prompt}", row.prompt), [row.prompt])
            return Rendered(
                row,
                prompt,
                Part(str(row.chosen), [str(row.chosen)]),
                Part(str(row.rejected), [str(row.rejected)]),
                True,
            )
        return self._chat(row)

    def _chat(self, row: Row) -> Rendered | str:
        prompt = _messages(row.prompt, "user")
        prompt_text = self._apply(prompt, add_generation_prompt=True)
        parts = []
        for response in (_messages(row.chosen, "assistant"), _messages(row.rejected, "assistant")):
            full = self._apply(prompt + response, add_generation_prompt=False)
            if not full.startswith(prompt_text):
                return "the chat template renders the prompt differently when a response follows it"
            parts.append(Part(self._end(full[len(prompt_text) :]), [m["content"] for m in response]))
        chosen, rejected = parts
        ended = all(self._ends_in_special(part.text) for part in parts)
        contents = [message["content"] for message in prompt]
        return Rendered(row, Part(prompt_text, contents), chosen, rejected, append_eos=not ended)

    def _apply(self, messages: list[Message], **options: Any) -> str:
        if self.template.chat is None and self.tokenizer.chat_template is None:
            raise ConfigError(
                "the data hold chat messages, but the tokenizer has no chat template.\n"
                "  Fix: give one as data.template.chat (Jinja), or use the tokenizer of an instruction-tuned model."
            )
        return str(
            self.tokenizer.apply_chat_template(messages, chat_template=self.template.chat, tokenize=False, **options)
        )

    def _end(self, text: str) -> str:
        """Without the white space that templates write after the token that ends a turn."""
        return text.rstrip() if self._ends_in_special(text.rstrip()) else text

    def _ends_in_special(self, text: str) -> bool:
        return any(match.end() == len(text) for match in self.special.finditer(text))


def _messages(text: str | list[Message], role: str) -> list[Message]:
    if isinstance(text, list):
        return text
    return [{"role": role, "content": text}] if text else []
