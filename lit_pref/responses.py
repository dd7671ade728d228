"""``responses.jsonl``: what a model answered, written down as soon as it is said. Knows nothing about models or judges.

One JSON object a line, only ever appended, so a run that is killed at any moment keeps every finished response, and a
restart of the same plan takes them over. Process 0 writes the file itself; others write one beside it, and when all is
done process 0 adds what it does not hold yet.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from .data.rows import DataError
from .drawing import Sampling
from .errors import SetupError
from .generated import Generated
from .processes import ALONE, Processes
from .prompts import Prompt

#: Of ``Sampling``, what no single response depends on.
_NO_MATTER = ("samples", "batch_size")
#: Raise this when the same plan would be answered by other tokens.
VERSION = 1


def plan_of(prompts: Sequence[Prompt], sampling: Sampling, stop_tokens: Collection[int], model: str) -> str:
    """A name for what is asked: equal plans have equal responses.

    Args:
        prompts: in token ids.
        sampling: how responses are drawn.
        stop_tokens: tokens that end a response.
        model: whatever tells the weights from all others: a fingerprint, a run and its step.
    """
    settings = {name: value for name, value in asdict(sampling).items() if name not in _NO_MATTER}
    asked = [VERSION, model, settings, sorted(stop_tokens), [(prompt.number, prompt.ids) for prompt in prompts]]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


class Responses:
    """The responses to one plan in a file that may hold others; a sink for ``generate``.

    Each line holds ``plan``, ``index`` (number of the prompt), ``id`` (its name in the data), ``sample``, ``prompt``
    (text or turns), ``response`` (text without special tokens), ``ended``, ``tokens`` (the ids).

    Args:
        path: of the file; its folder is made.
        plan: from ``plan_of``.
        prompts: that are answered, in the order that ``generate`` gets them.
        tokenizer: to write tokens as text.
        processes: that generate together.
    """

    def __init__(
        self,
        path: Path,
        plan: str,
        prompts: Sequence[Prompt],
        tokenizer: PreTrainedTokenizerBase,
        processes: Processes = ALONE,
    ) -> None:
        self.path, self.plan, self.prompts, self.tokenizer, self.processes = path, plan, prompts, tokenizer, processes
        rank = processes.rank
        self.own = path if rank == 0 else path.with_name(f"{path.stem}.rank-{rank}{path.suffix}")

    def done(self) -> list[Generated]:
        """Responses to the plan that this machine's files hold: those that ``generate`` need not write again."""
        places = {prompt.number: place for place, prompt in enumerate(self.prompts)}
        beside = sorted(self.path.parent.glob(f"{self.path.stem}.rank-*{self.path.suffix}"))
        found: dict[tuple[int, int], Generated] = {}
        for line in (line for file in (self.path, *beside) for line in read_responses(file)):
            if line["plan"] == self.plan:
                response = Generated(places[line["index"]], line["sample"], line["tokens"], line["ended"])
                found.setdefault(response.key, response)
        return [found[key] for key in sorted(found)]

    def __call__(self, finished: Sequence[Generated]) -> None:
        """Append responses; they are there when this returns.

        Raises:
            SetupError: the file cannot be written.
        """
        lines = [json.dumps(self._line(response), ensure_ascii=False) + "\n" for response in finished]
        try:
            self.own.parent.mkdir(parents=True, exist_ok=True)
            with self.own.open("ab+") as file:
                _drop_torn_line(file)
                file.write("".join(lines).encode())
        except OSError as error:
            raise SetupError(
                f"{self.own}: this file cannot be written ({error.strerror or error}).\n"
                "  Fix: make room on the disk, or choose a folder that can be written to.\n"
                "  Responses that it held before are still there; a restart goes on behind them."
            ) from error

    def complete(self, generated: Sequence[Generated]) -> None:
        """Bring all responses into one file; every process calls this, with what ``generate`` returned."""
        if self.processes.rank == 0:
            held = {(line["index"], line["sample"]) for line in read_responses(self.path) if line["plan"] == self.plan}
            numbers = [prompt.number for prompt in self.prompts]
            missing = [r for r in generated if (numbers[r.prompt], r.sample) not in held]
            if missing:
                self(missing)
        # Nobody removes a line before process 0 has written it.
        self.processes.total(torch.zeros(1, device=self.processes.device))
        if self.own != self.path and all(line["plan"] == self.plan for line in read_responses(self.own)):
            self.own.unlink(missing_ok=True)

    def _line(self, response: Generated) -> dict[str, Any]:
        prompt = self.prompts[response.prompt]
        return {
            "plan": self.plan,
            "index": prompt.number,
            "id": prompt.id,
            "sample": response.sample,
            "prompt": prompt.text,
            "response": text_of(self.tokenizer, response.ids),
            "ended": response.ended,
            "tokens": response.ids,
        }


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """A response as a person or a judge reads it: without special tokens, and otherwise as its tokens spell it."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def read_responses(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a file; none where it does not exist. A last line without its end was torn by a kill and is left out.

    Raises:
        DataError: a line in the middle is no JSON object.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                return
            try:
                line = json.loads(raw)
                known = {"plan", "index", "sample", "tokens", "ended"} <= line.keys()
            except (ValueError, AttributeError):
                known = False
            if not known:
                message, kept = "this line is not one that lit-pref has written.", "The file is as it was."
                raise DataError.of_file("broken-responses", f"{path}:{number}", message, "remove the line", kept)
            yield line


def _drop_torn_line(file: Any) -> None:
    """Cut a file back to the end of its last whole line."""
    size = file.seek(0, 2)
    if not size:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, 2)
