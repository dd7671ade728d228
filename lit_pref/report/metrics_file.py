"""The last validation in a run's metrics.csv. Knows the file's shape: a column a tag, a line for each logging."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import csv as arrow_csv

#: The tag whose last line is the last validation.
VALIDATED = "displacement/chosen/val"
_WANTED = re.compile(r"(displacement|refusal|generation)/.+/val$|judge/(over_)?(unparseable|error)_.+/val$")


class LastValidation(NamedTuple):
    """What was measured at the last validation.

    Attributes:
        step: optimizer steps that had been taken; None where nothing was validated.
        values: tag without its stage -> number.
        stale: tag -> step, of tags that were last logged at an earlier step, so that they say nothing of this one.
    """

    step: int | None
    values: dict[str, float]
    stale: dict[str, int]


def last_validation(path: Path) -> LastValidation:
    """Read the file; a line that a kill tore is left out.

    Raises:
        ValueError: the file is no table of numbers.
        OSError: it cannot be read.
    """
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        head = next(csv.reader(file), [])
    tags = [tag for tag in head if _WANTED.fullmatch(tag)]
    if "step" not in head or VALIDATED not in tags:
        return LastValidation(None, {}, {})
    table = arrow_csv.read_csv(
        path,
        parse_options=arrow_csv.ParseOptions(invalid_row_handler=lambda row: "skip"),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=[*tags, "step"],
            column_types=dict.fromkeys([*tags, "step"], pa.float64()),
            null_values=[""],  # by default "nan" is one too, and a run that diverged would end before it did
        ),
    )
    steps = table["step"].to_numpy()
    last: dict[str, tuple[int, float]] = {}
    for tag in tags:
        column = table[tag].combine_chunks()
        logged = column.is_valid().to_numpy(zero_copy_only=False).nonzero()[0]
        if len(logged):
            last[tag] = int(steps[logged[-1]]), column[int(logged[-1])].as_py()
    if VALIDATED not in last:
        return LastValidation(None, {}, {})
    step = last[VALIDATED][0]
    name = {tag: tag.removesuffix("/val") for tag in last}
    return LastValidation(
        step,
        {name[tag]: value for tag, (at, value) in last.items() if at == step},
        {name[tag]: at for tag, (at, _) in last.items() if at != step},
    )
