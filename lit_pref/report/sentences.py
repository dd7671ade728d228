"""What a report opens with: its numbers in words. Knows a comparison; states nothing that is not in it."""

import math
from collections.abc import Sequence

from .comparability import same_over_seeds
from .comparison import ALPHA, FEWEST, Cell, Comparison
from .metrics import CHOSEN, MARGIN, Metric
from .numbers import changed, counted, interval, is_nothing, listed, signed, written
from .texts import plain

_LONGEST = 5  # arms named in one sentence


def opening(found: Comparison) -> list[str]:
    """Three sentences, and a fourth where judges were asked: margin, chosen, what is established, refusals."""
    said = [_margin(found), _chosen(found), _established(found)]
    return [sentence for sentence in [*said, _refusals(found)] if sentence]


def _margin(found: Comparison) -> str:
    runs = f"{counted(found.runs, 'run')}, {counted(len(found.seeds), 'seed')}"
    ranked = _ranked(found, MARGIN)
    if not ranked:
        return f"No arm has a margin that is a number ({runs})."
    best, worst = ranked[-1], ranked[0]
    if len(found.arms) == 1:
        return f"Under {_name(best)} the margin changed by {_value(found, best, MARGIN)} ({runs})."
    highest, lowest = (f"{_name(one)}, by {_value(found, one, MARGIN)}" for one in (best, worst))
    ending = f"({counted(len(found.arms), 'arm')}, {runs}).{_undefined(found, MARGIN)}"
    if together := _together(found, ranked, MARGIN):
        return f"The margin changed {together} {ending}"
    if _printed(found, worst, MARGIN)[:1] == "+":
        return f"The margin grew most under {highest}, and least under {lowest} {ending}"
    return (
        f"The margin changed by {_value(found, best, MARGIN)} under {_name(best)}, the highest, and by "
        f"{_value(found, worst, MARGIN)} under {_name(worst)}, the lowest {ending}"
    )


def _chosen(found: Comparison) -> str:
    ranked = _ranked(found, CHOSEN)
    if not ranked:
        return "No arm has a change of the chosen log-probability that is a number."
    fell = [name for name in ranked if _printed(found, name, CHOSEN)[:1] == "−"]
    lowest, highest = ranked[0], ranked[-1]
    if len(found.arms) == 1:
        verb = "fell" if fell else "did not fall"
        return f"The chosen log-probability {verb}: {_value(found, lowest, CHOSEN)} on average."
    how = f"under {len(fell)} of {len(found.arms)} arms" if fell else "under none of the arms"
    if together := _together(found, ranked, CHOSEN):
        return f"On average the chosen log-probability changed {together}.{_undefined(found, CHOSEN)}"
    return (
        f"On average the chosen log-probability fell {how}; it changed by {_value(found, lowest, CHOSEN)} under "
        f"{_name(lowest)}, the lowest, and by {_value(found, highest, CHOSEN)} under {_name(highest)}, the highest."
        f"{_undefined(found, CHOSEN)}"
    )


def _established(found: Comparison) -> str:
    others = [arm.name for arm in found.arms[1:]]
    first = _name(found.baseline.name)
    if not others:
        return "There is one arm, so nothing is compared."
    order = ""
    if _common(found) > 1 and same_over_seeds(found.arms):
        order = " Policy and pairs are the same at all seeds, so differences speak of the order of pairs alone."
    return _tested(found, others, first) + order


def _tested(found: Comparison, others: Sequence[str], first: str) -> str:
    """Which differences are established, of those that are not 0 as printed."""
    parts = []
    tests = 0
    for metric in (CHOSEN, MARGIN):
        cells = {name: found.cells[name][metric.tag] for name in others if metric.tag in found.cells[name]}
        tests = max([tests, *(cell.tests for cell in cells.values())])
        names = [f"{_name(n)} ({changed(c.difference.mean, metric.unit)} nats, n = {c.difference.n})"
                 for n, c in cells.items() if c.difference and (c.established or not _enough(found))
                 and not is_nothing(c.difference.mean, metric.unit) and c.difference.n]  # fmt: skip
        if names:
            parts.append(f"of {metric.title} for {listed(_few(names))}")
    if not tests:
        many = counted(len(found.seeds), "seed")
        takes = "that takes two or more seeds that both arms have, and differences that vary between them"
        return f"No difference from {first} can be tested ({many}): {takes}."
    if not _enough(found):
        what = f"differences from {first} are {listed(parts)}" if parts else f"no arm differs from {first} as printed"
        return f"Fewer than {FEWEST} common seeds establish nothing; {what}."
    family = f"Holm over {counted(tests, 'test')} of log-probabilities, p < {ALPHA}"
    if not parts:
        return f"No difference from {first} in chosen or margin, as printed, is established at these seeds ({family})."
    return f"Established differences from {first} are those {listed(parts)} ({family})."


def _refusals(found: Comparison) -> str:
    metric = next((m for m in found.metrics if m.tag.startswith("refusal/rate_")), None)
    ranked = _ranked(found, metric) if metric else []
    if metric is None:
        return ""
    if not ranked:
        return f"No arm has a refusal rate: too many responses have no verdict ({plain(metric.title)})."
    low, high = ranked[0], ranked[-1]
    judge = plain(metric.tag.removeprefix("refusal/rate_"), 40)
    undefined = _undefined(found, metric, ": too many responses have no verdict")
    if len(ranked) == 1:
        return f"Of the responses under {_name(low)}, {_value(found, low, metric)} are refusals ({judge}).{undefined}"
    sure = [c for c in (found.cells[a.name].get(metric.tag) for a in found.arms[1:]) if c and c.established]
    ending = f"{counted(len(sure), 'difference')} from {_name(found.baseline.name)} established"
    if together := _together(found, ranked, metric):
        return f"Refusals are {together.removeprefix('alike, by ')} alike, as {judge} judges.{undefined}"
    return (
        f"Refusals are fewest under {_name(low)} ({_value(found, low, metric)}) and most under {_name(high)} "
        f"({_value(found, high, metric)}), as {judge} judges; {ending}.{undefined}"
    )


def _ranked(found: Comparison, metric: Metric) -> list[str]:
    """Arms that have the metric as a number, lowest first."""
    names = [arm.name for arm in found.arms if not math.isnan(_mean(found, arm.name, metric))]
    return sorted(names, key=lambda name: _mean(found, name, metric))


def _together(found: Comparison, ranked: Sequence[str], metric: Metric) -> str:
    """What is said instead of a first and a last: where one arm has a number, or all have the same as printed."""
    if len(ranked) == 1:
        return f"by {_value(found, ranked[0], metric)} under {_name(ranked[0])}, the only arm of which it is a number"
    if len({_printed(found, name, metric) for name in ranked}) > 1:
        return ""
    unit = "" if metric.is_share else f" {metric.unit}"
    return f"alike, by {_printed(found, ranked[0], metric)}{unit} under {listed(_few([_name(n) for n in ranked]))}"


def _common(found: Comparison) -> int:
    """The most seeds that any arm has in common with the first."""
    first = found.baseline.runs.keys()
    return max((len(first & arm.runs.keys()) for arm in found.arms[1:]), default=0)


def _enough(found: Comparison) -> bool:
    """Whether any difference is of as many seeds as it takes to establish one."""
    return _common(found) >= FEWEST


def _printed(found: Comparison, name: str, metric: Metric) -> str:
    value = _mean(found, name, metric)
    return signed(value) if metric.unit == "nats" else written(value, metric.unit)


def _undefined(found: Comparison, metric: Metric, why: str = "") -> str:
    cells = {arm.name: found.cells[arm.name].get(metric.tag) for arm in found.arms}
    names = [_name(n) for n, c in cells.items() if c and c.estimate.n and math.isnan(c.estimate.mean)]
    return f" Under {listed(_few(names))} it is no number{why}." if names else ""


def _mean(found: Comparison, name: str, metric: Metric) -> float:
    cell = found.cells[name].get(metric.tag)
    return cell.estimate.mean if cell else math.nan


def _value(found: Comparison, name: str, metric: Metric) -> str:
    cell: Cell = found.cells[name][metric.tag]
    ends = interval(cell.estimate.low, cell.estimate.high, metric.unit)
    unit = "" if metric.is_share else f" {metric.unit}"
    value = _printed(found, name, metric)
    n = f"n = {cell.estimate.n}"
    return f"{value}{unit} {ends[:-1]}; {n}]" if ends else f"{value}{unit} [{n}]"


def _few(names: Sequence[str]) -> list[str]:
    left = len(names) - _LONGEST
    return [*names[:_LONGEST], f"{left} more"] if left > 1 else list(names)


def _name(name: str) -> str:
    return plain(name, 40)
