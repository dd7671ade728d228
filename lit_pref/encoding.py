"""From rows of text to pairs of token ids. Text ends here; this file knows nothing about tensors.

Prompt and response are tokenised apart and joined as ids, so the boundary is exact: no token ever spans it.
"""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from .batch import Pair
from .data.rows import Problem, Row
from .errors import ConfigError
from .rendering import Part, Rendered, Renderer, Template, Unusable

#: Raise this when the ids that a row is turned into change: caches of older versions are then rebuilt.
VERSION = 2


class Encoder:
    """Turns rows into pairs of token ids.

    Rules: the tokenizer's beginning-of-sequence token opens the prompt where the tokenizer adds one and the template
    has not written it. Text rows end with the end-of-sequence token, chat rows as their template ends a turn.
    Prompts are never cut: a row whose prompt leaves no room for a response is dropped. Responses are cut at the end,
    and then end without an end-of-sequence token, since they did not end there. Text that spells a special
    token ("</s>") is encoded as plain text, never as the control token.

    Args:
        tokenizer: any tokenizer of transformers.
        template: how text becomes a prompt and a response.
        max_length: most tokens of prompt and response together.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.render = Renderer(tokenizer, template)
        self.max_length = max_length
        added = tokenizer("")["input_ids"]
        self.bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id in added[:1] else []
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has no end-of-sequence token, nor has the model's config.\n"
                "  Fix: set eos_token in its tokenizer_config.json."
            )
        self.eos = [tokenizer.eos_token_id]

    def encode(self, rows: Sequence[Row]) -> Iterator[Pair | Problem]:
        """Pairs of the rows that can be used; for each other row a Problem, and notes on some that are used."""
        rendered: list[Rendered] = []
        for row in rows:
            try:
                rendered.append(self.render(row))
            except Unusable as reason:
                yield _problem(row, "chat-template", None, f"{reason}", "use another data.template.chat", "refuse")
        texts = [part.text for r in rendered for part in (r.prompt, r.chosen, r.rejected)]
        ids = self._ids(texts) if texts else []
        for i, r in enumerate(rendered):
            yield from self._pair(r, *ids[3 * i : 3 * i + 3])

    def prompt(self, part: Part) -> list[int]:
        """Ids of a rendered prompt, as a pair has them; never cut."""
        return self._open(self.ids(part))

    def ids(self, part: Part) -> list[int]:
        """Ids of a rendered text, without anything before or behind it; special tokens that data spell are text."""
        if part.spelled:
            return self._guarded(part)
        return self._ids([part.text])[0]

    def _pair(self, r: Rendered, prompt: list[int], chosen: list[int], rejected: list[int]) -> Iterator[Pair | Problem]:
        if r.prompt.spelled or r.chosen.spelled or r.rejected.spelled:
            prompt, chosen, rejected = map(self._guarded, (r.prompt, r.chosen, r.rejected))
            yield _problem(
                r.row, "special-token-text", None, "the text spells a special token; it was encoded as plain text",
                "remove it from the data if it was meant as a control token", "note",
            )  # fmt: skip
        prompt = self._open(prompt)
        room = self.max_length - len(prompt)
        if room < 1:
            yield _problem(
                r.row, "prompt-too-long", "prompt",
                f"a prompt of {len(prompt)} tokens leaves no room for a response in data.max_length={self.max_length}",
                "raise data.max_length", "drop",
            )  # fmt: skip
            return
        chosen += [] if r.chosen.ended else self.eos
        rejected += [] if r.rejected.ended else self.eos
        if max(len(chosen), len(rejected)) > room:
            if chosen[:room] == rejected[:room]:
                yield _problem(
                    r.row, "equal-after-cutting", "chosen",
                    f"both responses are the same once cut to data.max_length={self.max_length}",
                    "raise data.max_length", "drop",
                )  # fmt: skip
                return
            yield _problem(
                r.row, "response-cut", None, f"a response was cut to fit data.max_length={self.max_length}",
                "raise data.max_length to keep it whole", "note",
            )  # fmt: skip
        elif chosen == rejected:
            yield _problem(
                r.row, "same-tokens", "chosen", "both responses are the same tokens, though not the same text",
                "remove the row: it has no gradient", "drop",
            )  # fmt: skip
            return
        row = r.row
        rewards = (row.chosen_reward, row.rejected_reward)
        yield Pair(row.number, prompt, chosen[:room], rejected[:room], *rewards, row.id, row.labels)

    def _open(self, prompt: list[int]) -> list[int]:
        """Begin-of-sequence first; an empty prompt still needs one token to predict the first response token."""
        if self.bos and prompt[:1] != self.bos:
            return self.bos + prompt
        return prompt or self.eos

    def _guarded(self, part: Part) -> list[int]:
        """Ids of a text that spells special tokens: only those that the template wrote are control tokens."""
        ids: list[int] = []
        start = 0
        for match in self.render.special.finditer(part.text):
            if not any(a < match.end() and match.start() < b for a, b in part.spelled):
                ids += self._plain(part.text[start : match.start()])
                ids.append(int(self.tokenizer.get_vocab()[match.group()]))
                start = match.end()
        return ids + self._plain(part.text[start:])

    def _plain(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return ids


def _problem(row: Row, case: str, field: str | None, message: str, fix: str, action: str) -> Problem:
    return Problem(case, row.number, row.where, field, "", message, fix, action)  # type: ignore[arg-type]


def ending_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Special tokens: at the end of a response, tokens that only say that it ends. An unknown word says more."""
    added = (number for number, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset([*tokenizer.all_special_ids, *added]) - {tokenizer.unk_token_id}
