"""Lines of pairs in our own format, their split, and the table of what became of every prompt. Knows no models."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..data.rows import REMOVES, Problem, Record, Text
from ..data.validation import validate
from ..run_answers import spoken
from .labelling import CLASSES, DROPPED
from .writing import write_text

Line = dict[str, Any]
#: Digits of a score on disk; the last ones of a float depend on what shared its batch.
DIGITS = 6


class Side(NamedTuple):
    """What a line says about one of its responses."""

    text: str
    verdict: str
    score: float | None
    tie_score: float | None
    ended: bool


def line_of(name: str, prompt: Text, chosen: Side, rejected: Side, pair_class: str, tie_break: str | None) -> Line:
    """One pair; of a prompt of chat turns the responses are turns too, as ``lit-pref fit`` reads them."""

    def response(side: Side) -> Text:
        return side.text if isinstance(prompt, str) else [{"role": "assistant", "content": side.text}]

    line: Line = {"id": name, "prompt": prompt, "chosen": response(chosen), "rejected": response(rejected)}
    line |= {"pair_class": pair_class, "tie_break": tie_break}
    for key, side in (("chosen", chosen), ("rejected", rejected)):
        line[f"{key}_verdict"] = side.verdict
        line[f"{key}_score"] = _rounded(side.score)
        line[f"{key}_tie_score"] = _rounded(side.tie_score)
        line[f"{key}_ended"] = side.ended
    return line


def acceptable(lines: Sequence[Line]) -> tuple[list[Line], Counter[str]]:
    """The lines that ``lit-pref fit`` would train on, and why it would refuse the others."""
    refused = {
        item.number: item.case
        for item in validate([Record(i, f"pair {i}", line) for i, line in enumerate(lines)])
        if isinstance(item, Problem) and item.action in REMOVES
    }
    kept = [line for i, line in enumerate(lines) if i not in refused]
    return kept, Counter(f"refused by lit-pref fit: {case}" for case in refused.values())


def split(lines: Sequence[Line], test_share: float, seed: int) -> dict[str, list[Line]]:
    """Training and test lines, each in its order; the order in which prompts are tried depends on seed and text alone.

    All lines of a prompt go to one side, or the test would ask what was trained on. Prompts are put aside as long as
    they fit, so that there are never more test lines than the share, and fewer only where lines of equal prompts are.
    """
    prompts: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        prompts.setdefault(prompt_key(line["prompt"]), []).append(i)
    wanted, test = int(len(lines) * test_share), set[int]()
    for text in sorted(prompts, key=lambda text: _draw(seed, text)):
        if len(test) + len(prompts[text]) <= wanted:
            test |= set(prompts[text])
    return {
        name: [{**line, "split": name} for i, line in enumerate(lines) if (i in test) == (name == "test")]
        for name in ("train", "test")
    }


def prompt_key(prompt: Text) -> str:
    """The same for prompts that ask the same: what is said, whatever the white space or the system turn."""
    return " ".join(spoken(prompt).split())


def files_of(out: Path) -> dict[str, Path]:
    """The files of ``--out``: pairs.jsonl stands for pairs.train.jsonl, pairs.test.jsonl and what they came from."""
    endings = {"train": "train.jsonl", "test": "test.jsonl", "responses": "responses.jsonl", "report": "report.json"}
    endings |= {"prompts": "prompts.jsonl", "verdicts": "verdicts.sqlite"}
    return {name: out.with_name(f"{out.stem}.{ending}") for name, ending in endings.items()}


def write_lines(path: Path, lines: Sequence[Line]) -> None:
    """Write a JSONL file in one step."""
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def report_of(prompts: int, lines: dict[str, list[Line]], dropped: Counter[str]) -> dict[str, Any]:
    """Counts; kept and dropped add up to the prompts."""
    everything = [line for part in lines.values() for line in part]
    classes = Counter(line["pair_class"] for line in everything)
    reasons = [*DROPPED, *sorted(set(dropped) - set(DROPPED))]
    report: dict[str, Any] = {
        "prompts": prompts,
        "kept": len(everything),
        "dropped": sum(dropped.values()),
        "reasons": {name: dropped[name] for name in reasons if dropped[name]},
        "classes": {name: classes[name] for name in CLASSES},
        "splits": {name: len(part) for name, part in lines.items()},
        "cut_responses": sum(not line[f"{side}_ended"] for line in everything for side in ("chosen", "rejected")),
    }
    assert report["kept"] + report["dropped"] == prompts, report
    return report


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    kept = report["kept"]
    lines = ["| pair class | pairs | share |", "|---|---|---|"]
    lines += [f"| {name} | {n:,} | {n / max(kept, 1):.1%} |" for name, n in report["classes"].items()]
    lines += ["", f"{report['prompts']:,} prompts = {kept:,} pairs + {report['dropped']:,} dropped"]
    lines += [f"  {n:,} dropped: {name}" for name, n in report["reasons"].items()]
    if report["cut_responses"]:
        lines.append(f"  {report['cut_responses']:,} responses in pairs were cut at sampling.max_new_tokens")
    return "\n".join(lines)


def _draw(seed: int, text: str) -> bytes:
    """Of half a surrogate pair, which JSON can hold, there is no UTF-8."""
    return hashlib.sha256(f"{seed}/{text}".encode("utf-8", "surrogatepass")).digest()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
