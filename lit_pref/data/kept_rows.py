"""A file that says which rows of a source to train on, tied to the bytes of that source."""

import json
from pathlib import Path

from .rows import DataError


def read_kept_rows(path: Path, content: str) -> list[int]:
    """Row numbers of the file; DataError where it is unreadable or belongs to other data.

    Args:
        path: JSON file {"data": fingerprint, "rows": [row, ...]}.
        content: fingerprint of the data that are about to be trained on.
    """
    try:
        kept = json.loads(path.read_text())
        data, rows = kept["data"], [int(row) for row in kept["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a file of kept rows ({type(error).__name__}: {error}).\n"
            '  Fix: write {"data": FINGERPRINT, "rows": [0, 2, ...]}.\n  Nothing was trained.',
            ["kept-rows-unreadable"],
        ) from error
    if data != content:
        raise other_data(str(path), data, content)
    return rows


def other_data(where: str, kept_from: str, content: str) -> DataError:
    """The refusal of rows that were kept from other data."""
    return DataError(
        f"{where}: its rows were kept from data with the fingerprint {kept_from}, but data.path holds {content}; "
        "row numbers of other data mean other pairs.\n"
        "  Fix: use the data that the rows were chosen from, or choose again.\n  Nothing was trained.",
        ["kept-rows-of-other-data"],
    )
