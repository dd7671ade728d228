"""A judge's question as token ids. Knows nothing of models or labels."""

from __future__ import annotations

import re
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from ..errors import ConfigError
from .base import Item
from .loading import middle_out, plain_ids
from .prompting import CUT_MARK, Asked, Template

#: Stands for the question while the chat template is applied; private-use characters, so no text has it.
_PLACE = "\ue0f1question\ue0f2"


class Question(NamedTuple):
    """Ids of a question, empty where it does not fit, and what was done to make it fit."""

    ids: list[int]
    note: str


class Questions:
    """Encodes items.

    The whole text is tokenised at once, as a judge that was trained on it saw it; only where text of others spells a
    special token are the pieces tokenised apart, so that it stays text.

    Args:
        tokenizer: of the judge's model.
        template: the question.
        chat: put it into the chat template, where there is one.
        room: most ids of a question.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template, chat: bool, room: int) -> None:
        self.tokenizer, self.template, self.room = tokenizer, template, room
        self.before, self.after = "", ""
        if chat and tokenizer.chat_template:
            turns = [{"role": "user", "content": _PLACE}]
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            self.before, found, self.after = str(text).partition(_PLACE)
            if not found:
                raise ConfigError(
                    "the chat template of the judge's tokenizer leaves out what the user says\n"
                    "  Fix: set chat_template of the judge to false."
                )
        added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        spellings = sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)
        self.special = re.compile("|".join(map(re.escape, spellings)) or r"(?!)")
        begin = tokenizer.bos_token_id
        self.begin = [begin] if begin is not None and begin in tokenizer("")["input_ids"][:1] else []

    def encode(self, item: Item) -> Question:
        """The ids of a question; of an over-long one the response loses its middle, and nothing else is cut."""
        ids = self.ids(self.template.render(item))
        if len(ids) <= self.room:
            return Question(ids, "")
        response = plain_ids(self.tokenizer, item.response)
        bare = len(self.ids(self.template.render(item._replace(response=CUT_MARK))))
        keep = self.room - bare
        while keep >= min(8, len(response)):  # joined halves may take more ids than they had apart
            short = item._replace(response=middle_out(self.tokenizer, response, keep, CUT_MARK))
            cut = self.ids(self.template.render(short))
            if len(cut) <= self.room:
                return Question(cut, f"of the response's {len(response)} tokens the middle was cut, {keep} are left")
            keep -= len(cut) - self.room
        return Question([], f"too long: the question takes {bare} tokens without the response, of {self.room}")

    def ids(self, asked: Asked, answer: str = "") -> list[int]:
        """Ids of a question, and of the beginning of an answer."""
        pieces = [(self.before, False), *asked.pieces, (self.after + answer, False)]
        if any(others and self.special.search(text) for text, others in pieces):
            ids = [i for text, others in pieces if text for i in self._piece(text, others)]
        else:
            ids = self._piece("".join(text for text, _ in pieces), False)
        return ids if ids[: len(self.begin)] == self.begin else self.begin + ids

    def _piece(self, text: str, others: bool) -> list[int]:
        if others:
            return plain_ids(self.tokenizer, text)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids
