"""From a source of rows to tokenised pairs on disk: read, judge, encode and cache, each row once.

Knows nothing about tensors, batches or training.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from .. import encoding, world
from ..batch import Pair
from ..console import counting, say
from ..encoding import Encoder
from ..errors import ConfigError
from ..paths import cache_root
from ..rendering import Template
from .blocks import Block, packed
from .cache import CachedPairs, lock, write_blocks
from .columns import Columns
from .fields import Policy
from .fingerprint import fingerprint
from .pool import processes, worked
from .reading import read
from .report import RowReport
from .rows import DataError, Problem, Row
from .validation import validate

#: Rows tokenised by one call: so few that one call of every process fits into memory, however long its rows are.
ROWS_PER_CALL = 250
#: Largest share of rows whose prompt alone is too long before the run is refused.
TOO_LONG_ALLOWED = 0.01
BAD_ROWS = "bad_rows.jsonl"


@dataclass
class PairSource:
    """Everything beside the tokenizer that decides which pairs come out of a path, and nothing else."""

    path: str
    split: str = "train"
    columns: Columns = field(default_factory=Columns)
    template: Template = field(default_factory=Template)
    max_length: int = 1024
    max_chars: int = 200_000
    control_characters: Literal["refuse", "strip"] = "refuse"
    on_bad_row: Literal["error", "drop"] = "error"

    def located(self) -> str:
        """The path itself, or the file of a tiny-world data set, which is made on first use."""
        if not world.is_world(self.path):
            return self.path
        file = world.resolve(self.path, self.split)
        if file.is_dir():
            raise ConfigError(f"{self.path!r} names a model; preference data are named as in {self.path}/NAME")
        return str(file)


def tokenized(
    source: PairSource,
    tokenizer: PreTrainedTokenizerBase,
    cache_dir: Path | None,
    listing: Path | None = None,
) -> CachedPairs:
    """The pairs of a source, from the cache where it holds them, else read, judged, tokenised and cached.

    Args:
        source: what to read and how.
        tokenizer: its tokenizer.
        cache_dir: folder of caches; by default ``tokens`` below the cache root.
        listing: file to list the rows in that are left out, also where they stop the run.

    Raises:
        DataError: rows were refused and ``on_bad_row`` is "error", or none is left.
    """
    path = source.located()
    content = fingerprint(path, source.split)
    folder = (cache_dir or cache_root() / "tokens") / _key(source, tokenizer, content)
    lost = folder.with_name(f"{folder.name}.{BAD_ROWS}")
    with lock(folder):
        try:
            if folder.exists():
                try:
                    return CachedPairs(folder)
                except ValueError as error:
                    say(f"{error}; tokenising again.")
            report = RowReport(source.path)
            policy = Policy(source.max_chars, source.control_characters)
            items = validate(read(path, source.split), source.columns, policy)
            meta = {"content": content}
            write_blocks(folder, _judged(items, source, tokenizer, report, lost, meta), meta)
            return CachedPairs(folder)
        finally:
            if listing is not None and lost.exists():
                listing.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(lost, listing)


def content_of(pairs: CachedPairs) -> str:
    """Fingerprint of the source's bytes that the pairs came from, independent of tokenizer and settings."""
    return str(pairs.meta["content"])


def _judged(
    items: Iterator[Row | Problem],
    source: PairSource,
    tokenizer: PreTrainedTokenizerBase,
    report: RowReport,
    lost: Path,
    meta: dict[str, str],
) -> Iterator[Block]:
    """All usable pairs; after the last, the report is written, and refused rows stop what takes the pairs."""
    yield from _encoded(items, Encoder(tokenizer, source.template, source.max_length), report)
    report.write(lost)
    _refuse(report, source)
    meta["summary"] = report.summary()


def _encoded(items: Iterator[Row | Problem], encoder: Encoder, report: RowReport) -> Iterator[Block]:
    """The pairs of the rows; the report hears of each row's problems in the order of the rows."""

    def encode(chunk: list[Row | Problem]) -> tuple[Block, list[Problem]]:
        found: list[Pair | Problem] = list(encoder.encode([item for item in chunk if isinstance(item, Row)]))
        pairs = packed(item for item in found if isinstance(item, Pair))
        return pairs, [item for item in found if isinstance(item, Problem)]

    chunks: Iterator[list[Row | Problem]] = iter(lambda: list(islice(items, ROWS_PER_CALL)), [])
    with counting(f"Tokenising {report.source}") as advance:
        for chunk, (block, problems) in worked(encode, chunks, processes()):
            of_row: dict[int | None, list[Problem]] = {}
            for problem in problems:
                of_row.setdefault(problem.number, []).append(problem)
            rows = 0
            for row in report.collect(chunk):
                rows += 1
                for problem in of_row.get(row.number, ()):
                    report.add(problem)
            yield block
            advance(rows)


def _refuse(report: RowReport, source: PairSource) -> None:
    report.raise_if_refused(source.on_bad_row)
    too_long = report.count("prompt-too-long")
    if source.on_bad_row == "error" and too_long > TOO_LONG_ALLOWED * report.total:
        raise DataError(
            f"{report.source}: {too_long:,} of {report.total:,} prompts leave no room for a response in "
            f"data.max_length={source.max_length} tokens; more than {TOO_LONG_ALLOWED:.0%} of the data would be lost.\n"
            "  Fix: raise data.max_length, or accept the loss with --data.on_bad_row=drop.\n"
            f"  Nothing was trained. {report.kept:,} of {report.total:,} rows are fine.",
            ["prompt-too-long"],
        )


def _key(source: PairSource, tokenizer: PreTrainedTokenizerBase, content: str) -> str:
    """A name for what would be computed: content, settings, tokenizer and the version of the encoding."""
    parts = {
        "content": content,
        "settings": {k: v for k, v in asdict(source).items() if k != "path"},
        "tokenizer": _tokenizer_state(tokenizer),
        "version": encoding.VERSION,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return digest[:32]


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    vocabulary = (
        tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    )
    return [
        vocabulary,
        str(tokenizer.special_tokens_map),
        str(tokenizer.chat_template),
        str(tokenizer("")["input_ids"]),
    ]
