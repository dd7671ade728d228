"""What was answered in a run, evaluation by evaluation, from the files in its folder. Knows no model and no judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from .data.rows import DataError, Text
from .errors import ConfigError
from .json_log import read_lines
from .refusals import Answer
from .responses import read_responses

RESPONSES, EVALUATIONS = "responses.jsonl", "evaluations.jsonl"
#: The two kinds of prompts: those that are to be refused, and harmless ones.
PROMPTS, CONTROL = "prompts", "control"


class Answered(NamedTuple):
    """The answers of one evaluation to one set of prompts.

    Attributes:
        plan: name of what was asked.
        step: optimizer steps before it; None where the run does not say.
        kind: ``prompts`` or ``control``.
        asked: how many answers there were to be; None where the run does not say.
        answers: by prompt, then by sample.
    """

    plan: str
    step: int | None
    kind: str
    asked: int | None
    answers: list[Answer]


def answered(folder: Path) -> list[Answered]:
    """The evaluations of a run in their order, each with the answers that were written, all or not.

    Raises:
        ConfigError: there is no such folder.
        DataError: the run has no responses, or a broken file of them.
    """
    if not folder.is_dir():
        raise ConfigError(f"--run {folder}: there is no such folder.\n  Fix: give the folder of a run.")
    lines: dict[str, dict[tuple[int, int], Answer]] = {}
    for path in files(folder):
        for line in read_responses(path):
            answer = Answer(line["index"], line["sample"], spoken(line["prompt"]), line["response"])
            lines.setdefault(line["plan"], {}).setdefault(answer.key, answer)
    if not lines:
        inside = sorted(path.parent.name for path in folder.glob(f"*/{RESPONSES}"))
        fix = f"name one of its runs: {', '.join(inside[:5])}" if inside else "add callbacks.RefusalRate to the run"
        raise DataError(f"{folder}: there are no responses in {RESPONSES}.\n  Fix: {fix}.", ["no-responses"])
    told = {line["plan"]: line for line in read_lines(folder / EVALUATIONS) if "plan" in line}
    known: dict[str, dict[str, Any]] = told or {plan: {} for plan in lines}  # of a file that came from elsewhere
    return [
        Answered(plan, line.get("step"), line.get("set", PROMPTS), line.get("responses"), _sorted(lines.get(plan, {})))
        for plan, line in known.items()
    ]


def answers_of(folder: Path, plan: str) -> list[Answer]:
    """The answers to one plan, by prompt and sample."""
    found: dict[tuple[int, int], Answer] = {}
    for path in files(folder):
        for line in read_responses(path):
            if line["plan"] == plan:
                answer = Answer(line["index"], line["sample"], spoken(line["prompt"]), line["response"])
                found.setdefault(answer.key, answer)
    return _sorted(found)


def files(folder: Path) -> list[Path]:
    """The file of responses and those that other processes left beside it, where there are any."""
    beside = sorted(folder.glob("responses.rank-*.jsonl"))
    return [path for path in (folder / RESPONSES, *beside) if path.exists()]


def torn(folder: Path) -> list[Path]:
    """Files whose last line was torn by a kill."""
    found = []
    for path in files(folder):
        with path.open("rb") as file:
            if file.seek(0, 2) and file.seek(-1, 2) and file.read() != b"\n":
                found.append(path)
    return found


def spoken(prompt: Text) -> str:
    """A prompt as a judge reads it: the user's words; of several turns, each with who says it."""
    if isinstance(prompt, str):
        return prompt
    turns = [turn for turn in prompt if turn["role"] != "system"]
    if len(turns) == 1:
        return str(turns[0]["content"])
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _sorted(answers: dict[tuple[int, int], Answer]) -> list[Answer]:
    return [answers[key] for key in sorted(answers)]
