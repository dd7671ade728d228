"""Every metric of every arm: means over seeds, and differences from the first arm with Holm's correction.

Knows arms and numbers; nothing of how they are shown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import ConfigError
from .arms import Arm
from .metrics import DISPLACEMENT, LENGTH, Metric, refusal_metrics
from .statistics import Difference, Estimate, difference, estimate, holm

#: Below this adjusted p-value a difference is called established.
ALPHA = 0.05
#: Seeds below which no difference is, whatever its p-value: of two, one may be like the other by chance.
FEWEST = 3


class Cell(NamedTuple):
    """One metric of one arm.

    Attributes:
        seeds: of the runs that have it.
        estimate: mean over these.
        difference: from the baseline over the seeds of both; None for the baseline itself.
        p_holm: adjusted over ``tests`` tests, those of all arms and all metrics of the family.
        tests: how many; 0 where none could be made.
    """

    seeds: tuple[int, ...]
    estimate: Estimate
    difference: Difference | None = None
    p_holm: float = math.nan
    tests: int = 0

    @property
    def established(self) -> bool:
        """Whether p is small enough, over seeds enough."""
        return self.p_holm < ALPHA and self.difference is not None and self.difference.n >= FEWEST


@dataclass(frozen=True)
class Comparison:
    """All numbers of a report.

    Attributes:
        arms: in the order in which they are shown; the baseline is the first one.
        metrics: those that at least one run has.
        cells: arm -> tag -> cell.
    """

    arms: Sequence[Arm]
    metrics: Sequence[Metric]
    cells: Mapping[str, Mapping[str, Cell]]

    @property
    def baseline(self) -> Arm:
        return self.arms[0]

    @property
    def seeds(self) -> list[int]:
        """Of all runs."""
        return sorted({seed for arm in self.arms for seed in arm.runs})

    @property
    def runs(self) -> int:
        return sum(len(arm.runs) for arm in self.arms)


def compare(arms: Sequence[Arm], baseline: str | None = None) -> Comparison:
    """Compare arms with the one called ``baseline``, by default the first.

    Raises:
        ConfigError: no arm has this name.
    """
    if baseline is not None:
        if baseline not in (names := [arm.name for arm in arms]):
            raise ConfigError(f"there is no arm {baseline!r} to compare with.\n  Choices: {', '.join(names)}")
        arms = sorted(arms, key=lambda arm: arm.name != baseline)
    judges = sorted({judge for arm in arms for run in arm.runs.values() for judge in run.refusals.rates})
    values = {
        arm.name: {seed: run.values for seed, run in arm.runs.items()} for arm in arms
    }  # fmt: skip
    held = {tag for runs in values.values() for numbers in runs.values() for tag in numbers}
    metrics = [m for m in (*DISPLACEMENT, *refusal_metrics(judges), LENGTH) if m.tag in held]
    cells: dict[str, dict[str, Cell]] = {arm.name: {} for arm in arms}
    for metric in metrics:
        first = _column(values[arms[0].name], metric)
        for arm in arms:
            own = _column(values[arm.name], metric)
            change = None if arm is arms[0] else difference(own, first)
            cells[arm.name][metric.tag] = Cell(tuple(own), estimate(list(own.values())), change)
    _correct(cells, metrics)
    return Comparison(arms, metrics, cells)


def _column(runs: Mapping[int, Mapping[str, float]], metric: Metric) -> dict[int, float]:
    return {seed: values[metric.tag] for seed, values in runs.items() if metric.tag in values}


def _correct(cells: dict[str, dict[str, Cell]], metrics: Sequence[Metric]) -> None:
    for family in {metric.family for metric in metrics}:
        places = [
            (arm, metric.tag)
            for arm in cells
            for metric in metrics
            if metric.family == family and cells[arm][metric.tag].difference is not None
        ]
        p_values = [cells[arm][tag].difference.p for arm, tag in places]  # type: ignore[union-attr]
        tests = sum(not math.isnan(p) for p in p_values)
        for (arm, tag), adjusted in zip(places, holm(p_values), strict=True):
            cells[arm][tag] = cells[arm][tag]._replace(p_holm=adjusted, tests=tests)
