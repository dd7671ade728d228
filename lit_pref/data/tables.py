"""CSV and Parquet: files whose columns are declared once, at the top or in the schema.

Knows nothing about which columns a row should have. Every CSV value is text: numbers are read by whoever
wants a number.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .excerpts import excerpt
from .rows import BadRow, DataError, Problem, Record
from .streams import Opened

_FIELD_LIMIT = 1 << 30  # the csv module stops at 131,072 characters; validation has a limit of its own
_BATCH = 1000  # rows turned into Python objects at a time


def read_csv(path: Path, opened: Opened, number: int) -> Iterator[Record | Problem]:
    """The rows of a CSV file with a header line, numbered from `number`."""
    csv.field_size_limit(_FIELD_LIMIT)
    reader = csv.reader(_decoded(path, opened), strict=True)
    header: list[str] | None = None
    line = 1  # where the row begins: a quoted value may run over several lines
    try:
        for values in reader:
            where, line = f"{path}:{line}", reader.line_num + 1
            if not values:
                continue
            if header is None:
                header = _checked_header(where, values)
                continue
            yield _csv_row(header, values, number, where)
            number += 1
    except csv.Error as error:
        message = f"this CSV cannot be read from here on ({error})."
        fix = 'double every quote inside a quoted value ("") and close every quote'
        raise DataError.of_file("broken-csv", f"{path}:{line}", message, fix) from error


def _csv_row(header: list[str], values: list[str], number: int, where: str) -> Record | Problem:
    if len(values) == len(header):
        return Record(number, where, dict(zip(header, values, strict=True)))
    message = f"{len(values)} values in a row, but the header names {len(header)} columns."
    fix = "quote values that hold commas or line ends, or drop the row"
    return BadRow("csv-width", None, excerpt(",".join(values)), message, fix).at(number, where)


def _checked_header(where: str, names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        message = f"the header names {', '.join(map(excerpt, twice))} more than once."
        raise DataError.of_file("duplicate-column", where, message, "give each column its own name")
    return names


def _decoded(path: Path, opened: Opened) -> Iterator[str]:
    for line, raw in enumerate(opened.lines(), 1):
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line is not UTF-8."
            fix = "save the file as UTF-8 (it may be Latin-1)"
            raise DataError.of_file("not-utf8", f"{path}:{line}", message, fix) from error


def _is_nan(value: Any) -> bool:
    """Pandas writes a missing number as NaN."""
    return isinstance(value, float) and value != value


def read_parquet(path: Path, opened: Opened, number: int) -> Iterator[Record | Problem]:
    """The rows of a Parquet file, numbered from `number`, a batch in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Parquet is read from its end, which a gzip stream cannot offer: a .gz one is held in memory.
        plain = opened.seekable()
        file = pq.ParquetFile(plain if plain else io.BytesIO(opened.read()))
        index = 0
        for batch in file.iter_batches(batch_size=_BATCH):
            for fields in batch.to_pylist():
                known = {name: None if _is_nan(value) else value for name, value in fields.items()}
                yield Record(number + index, f"{path} row {index}", known)
                index += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        message = f"this is no readable Parquet file ({excerpt(str(error), 100)})."
        raise DataError.of_file("broken-parquet", path, message, "download or write it again") from error
