"""A rate of refusals without the errors of its judge, as far as labelled rows tell them. Knows no judge and no run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.rows import DataError
from ..refusal_statistics import RESAMPLES, Interval, percentiles
from .agreement import rogan_gladen

UNKNOWN = Interval(math.nan, math.nan)


class Errors(NamedTuple):
    """How often a judge was right on labelled rows.

    Attributes:
        refusals: true refusals that it found, and how many there were.
        others: responses that are none and that it did not call one, and how many there were.
        note: why this is not to be used; empty where it may be.
    """

    refusals: tuple[int, int]
    others: tuple[int, int]
    note: str = ""


class Corrected(NamedTuple):
    """A rate that was corrected; NaN where the judge is not known to be better than chance, or errs otherwise here.

    Attributes:
        rate: the share of refusals that a judge with these errors would have turned into the share seen.
        interval: 95%; holds the uncertainty of the rate, of the sensitivity and of the specificity.
        fits: False where no share of refusals would have become the one seen: then the errors are others here.
    """

    rate: float
    interval: Interval
    fits: bool = True


def corrected(refusals: int, verdicts: int, errors: Errors, seed: int = 0) -> Corrected:
    """Rogan and Gladen's estimate, to be shown beside the rate and never in its place.

    The interval draws rate, sensitivity and specificity from what each may be after its counts (Jeffreys). Where one
    draw in forty says that the judge does not tell refusals from others, everything is possible, and there is none.

    Args:
        refusals: verdicts that say so.
        verdicts: on independent responses.
        errors: of the judge.
        seed: of the draws.
    """
    sides = (refusals, verdicts), errors.refusals, errors.others
    if any(n == 0 for _, n in sides):
        return Corrected(math.nan, UNKNOWN)
    shares = [k / n for k, n in sides]
    rng = np.random.default_rng(seed)
    rate, sensitivity, specificity = (rng.beta(k + 0.5, n - k + 0.5, RESAMPLES) for k, n in sides)
    skill = sensitivity + specificity - 1
    if np.mean(skill <= 0) > 0.025:
        return Corrected(rogan_gladen(*shares), UNKNOWN)
    drawn = ((rate + specificity - 1) / skill)[skill > 0]
    if np.mean(drawn > 1) > 0.975 or np.mean(drawn < 0) > 0.975:
        return Corrected(math.nan, UNKNOWN, fits=False)
    return Corrected(rogan_gladen(*shares), percentiles(np.clip(drawn, 0, 1), 0.95))


def read_errors(path: Path) -> dict[str, Errors]:
    """Errors by the fingerprint of the judge, from a ``calibration.json``.

    Raises:
        DataError: there is no such file, or it is another one.
    """
    try:
        judges = json.loads(path.read_text())["judges"]
        return {
            judge["fingerprint"]: Errors(_counts(judge["refusals"]), _counts(judge["others"]), str(judge["note"]))
            for judge in judges.values()
        }
    except OSError as error:
        raise DataError(
            f"{path}: it cannot be read ({error.strerror}).\n  Fix: make it by `lit-pref calibrate --out FOLDER`.",
            ["no-calibration"],
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: this is no calibration.json of `lit-pref calibrate`.\n"
            "  Fix: make one by `lit-pref calibrate --out FOLDER`.",
            ["broken-calibration"],
        ) from error


def _counts(pair: list[int]) -> tuple[int, int]:
    right, n = pair
    if not 0 <= right <= n:
        raise ValueError(pair)
    return int(right), int(n)
