"""Rows of data sets that the `datasets` library keeps: on the hub, or in a folder of `save_to_disk`.

Knows nothing about which columns a row should have; imports the library only when a row is wanted.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .excerpts import excerpt
from .rows import DataError, Record
from .sources import Source

_BATCH = 1000  # rows turned into Python objects at a time


class HubError(DataError):
    """A data set of the hub that cannot be had: of the network or the name, not of the data."""

    exit_code = 5


def read_dataset(source: Source) -> Iterator[Record]:
    """The rows of a data set on the hub or in a saved folder."""
    # Arrow tables, not decoded rows: other columns may hold images or sound that nobody asked for.
    number = 0
    for table in load(source).with_format("arrow").iter(_BATCH):
        for fields in table.to_pylist():
            yield Record(number, f"{source.name}[{source.split}] row {number}", fields)
            number += 1


def load(source: Source) -> Any:
    """The `datasets.Dataset` of one split, or a DataError saying why there is none."""
    import datasets

    name, _, config = source.name.partition(":")
    try:
        if source.kind == "saved":
            saved = datasets.load_from_disk(str(Path(source.name).expanduser()))
            return saved[source.split] if isinstance(saved, datasets.DatasetDict) else saved
        return datasets.load_dataset(name, config or None, split=source.split)
    except Exception as error:  # the library raises a dozen kinds, from the network's to its own
        raise _cannot_load(source, error) from error


def _cannot_load(source: Source, error: Exception) -> DataError:
    reason = f"{type(error).__name__}: {excerpt(str(error), 160)}"
    if source.kind == "saved":
        message, fix = f"this saved data set cannot be read ({reason}).", "write it again with save_to_disk"
        return DataError.of_file("broken-dataset", source.name, message, fix)
    message = (
        f'there is no local file or folder of this name, and the split "{source.split}" of a hub data set '
        f"of this name could not be loaded ({reason})."
    )
    fix = (
        "check the name (owner/name, or owner/name:config), the split and the network; "
        "without a network name a local file or folder"
    )
    return HubError.of_file("hub-unavailable", source.name, message, fix)
