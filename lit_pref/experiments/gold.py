"""Gold pairs: for each prompt one response that is known to refuse over one that is known not to. Imports no torch.

Razin et al., ICLR 2025, https://arxiv.org/abs/2410.08847, section 6.2: other people's responses, labelled by people.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..console import say
from ..data.reading import read
from ..data.rows import DataError, Record
from ..world import is_world, request

_REQUEST = re.compile("|".join(re.escape(frame).replace(r"\{\}", r"(\w+)") for frame in request.FRAMES))


@dataclass
class Gold:
    """Responses with a score by people.

    Attributes:
        path: one response a row; or world:request, the answers that the tiny world's grammar has for its requests.
        splits: of a folder or a hub data set.
        key: column that says which prompt is answered: its id among the prompts.
        response: column that holds the response; "choices[0].turns[0]" looks inside lists and objects.
        score: column that holds the score.
        refusal_below: a lower score is a refusal, any other one is none.
        seed: of the choice among several responses.
    """

    path: str
    splits: list[str] = field(default_factory=lambda: ["train"])
    key: str = "id"
    response: str = "response"
    score: str = "score"
    refusal_below: float = 0.5
    seed: int = 0

    def pairs(self, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Gold pairs of the prompts of some lines; a prompt without both kinds of response gives none.

        Raises:
            DataError: no prompt has both.
        """
        known: dict[str, tuple[list[str], list[str]]] = {}
        for key, response, refuses in self._responses(lines):
            known.setdefault(key, ([], []))[0 if refuses else 1].append(response)
        made = []
        for line in lines:
            refusals, others = known.get(str(line["id"]), ([], []))
            if refusals and others:
                coin = random.Random(f"{self.seed}/{line['id']}")
                sides = {"chosen": coin.choice(refusals), "rejected": coin.choice(others)}
                if isinstance(line["prompt"], list):
                    sides = {name: [{"role": "assistant", "content": text}] for name, text in sides.items()}  # type: ignore[misc]
                made.append({"id": line["id"], "prompt": line["prompt"], **sides, "pair_class": "one of each"})
        say(f"Gold: {len(made):,} of {len(lines):,} prompts have a known refusal and a known response that is none.")
        if not made:
            fix = "gold.key has to hold the ids of the prompts (prompts.id_column)"
            raise DataError.of_file("no-gold", self.path, "no prompt has both kinds of response here.", fix)
        return made

    def _responses(self, lines: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, bool]]:
        """Key, response, whether it refuses."""
        if is_world(self.path):
            yield from _grammar(lines)
            return
        splits = self.splits[:1] if Path(self.path).expanduser().is_file() else self.splits
        for split in splits:
            for record in read(self.path, split):
                if isinstance(record, Record):
                    key, response, score = (self._value(record, c) for c in (self.key, self.response, self.score))
                    if str(response).strip():
                        yield str(key), str(response), float(score) < self.refusal_below

    def _value(self, record: Record, column: str) -> Any:
        from ..preferences.prompt_source import value_at

        value = value_at(record.fields, column)
        if value is None:
            message = f"there is nothing at {column!r} here; columns: {', '.join(record.fields)}."
            raise DataError.of_file("missing-field", record.where, message, "correct gold.key, response or score")
        return value


def _grammar(lines: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, bool]]:
    for line in lines:
        match = _REQUEST.search(str(line["prompt"]))
        words = [word for word in match.groups() if word] if match else []
        if len(words) == 2:
            for style, templates in request.TEMPLATES.items():
                for template in templates:
                    yield str(line["id"]), template.format(verb=words[0], object=words[1]), style != "comply"
