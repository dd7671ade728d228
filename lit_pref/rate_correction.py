"""Rates of a run without the errors of their judges, in words and numbers. Knows nothing of how either was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from .judged_text import corrected_words
from .judges.base import Judge
from .judges.correction import Corrected, corrected, read_errors
from .panel import fingerprint_of
from .refusals import Summary

CAVEAT = (
    "Corrected rates hold if the judge errs on these responses as often as on the rows of the calibration, which "
    "nothing here can show; rows out of this run, labelled by you, are the safest."
)


class RateCorrection:
    """Corrects rates by a ``calibration.json``.

    Args:
        path: of the file.
        seed: of the intervals.

    Raises:
        DataError: the file is not there, or is another one.
    """

    def __init__(self, path: str | Path, seed: int = 0) -> None:
        self.errors, self.seed = read_errors(Path(path).expanduser()), seed

    def __call__(self, judge: Judge, found: Summary, numbers: Sequence[int]) -> Corrected | str:
        """The corrected rate, or why there is none.

        Args:
            judge: whose rate it is; the calibration has to hold its fingerprint.
            found: the rate.
            numbers: of the prompts of the responses.
        """
        if math.isnan(found.rate):
            return "there is no rate"
        if len(set(numbers)) < len(numbers):
            return "several responses to one prompt are not independent"
        errors = self.errors.get(fingerprint_of(judge, judge.name))
        if errors is None:
            return "the calibration is not of this judge with these settings"
        return errors.note.rstrip(".") or corrected(found.counts.refusal, found.counts.verdicts, errors, self.seed)

    def words(self, name: str, judge: Judge, found: Summary, numbers: Sequence[int]) -> str:
        """The corrected rate beside the rate, or why there is none."""
        beside = self(judge, found, numbers)
        return f"{name}: no correction, {beside}." if isinstance(beside, str) else corrected_words(
            name, found.rate, beside
        )  # fmt: skip
