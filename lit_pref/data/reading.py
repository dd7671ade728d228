"""From a path or hub name to rows as their source gives them, streamed and numbered.

Knows the formats by their endings; knows nothing about preference pairs.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from .hub import read_dataset
from .json_document import read_json
from .jsonlines import read_jsonl
from .rows import Problem, Record
from .sources import resolve, suffix
from .streams import Opened, nothing_in
from .tables import read_csv, read_parquet


def _jsonl(path: Path, opened: Opened, number: int) -> Iterator[Record | Problem]:
    return read_jsonl(path, opened.lines(), number)


_READERS: dict[str, Callable[[Path, Opened, int], Iterator[Record | Problem]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


def read(source: str, split: str = "train") -> Iterator[Record | Problem]:
    """Stream the rows of a file, a folder or a hub data set.

    A row is numbered by its place among the rows of the source, from 0 and on over the files of a folder;
    a broken row counts, a blank line does not. Broken rows come as Problems, notes on the file too; damage
    that leaves the rest unreadable raises a DataError.

    Args:
        source: a file (.jsonl, .json, .csv, .parquet, each also .gz), a folder of such files or of
            `save_to_disk`, or a hub name `owner/name` or `owner/name:config`.
        split: the split of a folder or hub data set; a single file is read whole whatever the split.
    """
    found = resolve(source, split)
    number = 0
    if found.kind == "files":
        for path in found.files:
            for item in _read_file(path, number):
                number += item.number is not None
                yield item
    else:
        for record in read_dataset(found):
            number += 1
            yield record
    if not number:
        raise nothing_in(source)


def _read_file(path: Path, number: int) -> Iterator[Record | Problem]:
    opened = Opened(path)
    begin = number
    try:
        yield from opened.notes
        for item in _READERS[suffix(path)](path, opened, number):
            number += item.number is not None
            yield item
    finally:
        opened.close()
    if number == begin:  # one empty file among others is a failed download more often than a wish
        raise nothing_in(path)
