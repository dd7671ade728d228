"""Pairs of which only a share is mixed: one refusal and one compliance. Knows pair classes; nothing about models."""

import json
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from ..data.rows import DataError
from ..whole_file import write_text
from ..world.onpolicy import MIXED, TWO_COMPLIANCES, TWO_REFUSALS
from .stages import read_jsonl

#: Of the mixed pairs among all; "all" leaves them as they were sampled.
Share = float | Literal["all"]
Line = dict[str, Any]
CLASSES = (TWO_REFUSALS, TWO_COMPLIANCES, MIXED)


def cut(lines: Sequence[Line], share: Share, seed: int) -> list[Line]:
    """The lines in their order without so many mixed pairs, drawn by the seed, that the others' share is as asked.

    What a smaller share keeps is kept by a larger one too; which pairs are kept depends on seed and ids alone.

    Raises:
        DataError: fewer pairs are mixed than asked for.
    """
    if share == "all":
        return list(lines)
    mixed = [i for i, line in enumerate(lines) if line["pair_class"] == MIXED]
    allowed = round(share * (len(lines) - len(mixed)) / (1 - share))
    if allowed > len(mixed):
        raise DataError(f"only {len(mixed):,} of {len(lines):,} pairs are mixed ({len(mixed) / len(lines):.1%}), "
                        f"so their share cannot be cut to {share:.4g}.\n  Fix: lower shares, or write all.\n"
                        "  Nothing was trained on them.", ["mixed-share"])  # fmt: skip
    order = sorted(mixed, key=lambda i: sha256(f"{seed}/{lines[i]['id']}".encode()).digest())
    dropped = set(order[allowed:])
    return [line for i, line in enumerate(lines) if i not in dropped]


def write_cut(pairs: Path, share: Share, seed: int) -> Path:
    """A JSONL file of its own beside the sampled pairs, and what is in it as .report.json.

    Args:
        pairs: stands for pairs.train.jsonl.
        share: of mixed pairs.
        seed: of the draw.
    """
    source = pairs.with_suffix(".train.jsonl")
    lines = read_jsonl(source)
    try:
        kept = cut(lines, share, seed)
    except DataError as error:
        raise DataError(f"{source}: {error}", ["mixed-share"]) from error
    path = pairs.with_name(f"{pairs.stem}.mixed-{share_name(share)}-seed{seed}.jsonl")
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
    report = {"share": share, "seed": seed, "pairs": len(kept), "dropped": len(lines) - len(kept),
              "classes": classes(kept)}  # fmt: skip
    write_text(path.with_suffix(".report.json"), json.dumps(report, indent=1) + "\n")
    return path


def classes(lines: Sequence[Line]) -> dict[str, int]:
    """How many pairs of each class there are."""
    found = Counter(line["pair_class"] for line in lines)
    return {name: found[name] for name in CLASSES}


def share_name(share: Share) -> str:
    """For files."""
    return "all" if share == "all" else f"{share:g}"


def share_title(share: Share) -> str:
    """For people."""
    return "as sampled" if share == "all" else f"{share * 100:g}%"
