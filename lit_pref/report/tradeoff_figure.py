"""What an arm gains in margin, and what it pays in chosen log-probability. Knows a comparison."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import isfinite, nan

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .arms import Arm
from .comparison import Comparison
from .drawing import INK, Drawing, blank, label, marker, zero
from .metrics import CHOSEN, MARGIN
from .statistics import Estimate

NAME = "tradeoff"
TITLE = "Margin against displacement"
Point = tuple[float, float]  # changes of chosen and of margin, nats


def draw(found: Comparison) -> Drawing | str:
    """The figure, or why there is none."""
    points = {arm.name: own for arm in found.arms if (own := _points(arm))}
    if not points:
        return "no run has both numbers"
    figure = blank(3.0 + 0.17 * -(-len(points) // 3))
    ax = figure.subplots()
    means: dict[str, Point] = {}
    marks = []
    for place, arm in enumerate(found.arms):
        x, y = (found.cells[arm.name][metric.tag].estimate for metric in (CHOSEN, MARGIN))
        if arm.name in points:
            _seeds(ax, place, list(points[arm.name].values()))
            marks.append(_handle(place, arm.name))
            if isfinite(x.mean) and isfinite(y.mean):
                means[arm.name] = x.mean, y.mean
                _mean(ax, place, x, y)
    joined = [line for line in _grids(found.arms) if all(arm.name in means for arm in line)]
    for line in joined:
        xs, ys = zip(*(means[arm.name] for arm in line), strict=True)
        ax.plot(xs, ys, color=INK, alpha=0.6, linewidth=0.8, linestyle=":")
    _view(ax, [point for own in points.values() for point in own.values()] + list(means.values()))
    zero(ax, vertical=True)
    zero(ax)
    ax.plot(0, 0, color=INK, marker="x", markersize=6, zorder=1)
    ax.annotate("before training", (0, 0), (-6, 5), textcoords="offset points", fontsize=7.5, ha="right")
    ax.set_xlabel("change of chosen log-probability (nats; left: displaced)")
    ax.set_ylabel("change of margin (nats)")
    figure.legend(handles=marks, loc="outside lower center", ncols=3)
    rows = [(arm, seed, *values) for arm, own in points.items() for seed, values in own.items()]
    head = ["arm", "seed", "chosen_nats", "margin_nats"]
    return Drawing(NAME, TITLE, _caption(points, bool(joined)), figure, head, rows)


def _points(arm: Arm) -> dict[int, Point]:
    found = {}
    for seed, run in arm.runs.items():
        point = run.values.get(CHOSEN.tag, nan), run.values.get(MARGIN.tag, nan)
        if all(map(isfinite, point)):
            found[seed] = point
    return found


def _seeds(ax: Axes, place: int, points: Sequence[Point]) -> None:
    colour, mark = marker(place)
    xs, ys = zip(*points, strict=True)
    ax.scatter(xs, ys, s=11, marker=mark, color=colour, alpha=0.8, linewidths=0, zorder=3)


def _mean(ax: Axes, place: int, x: Estimate, y: Estimate) -> None:
    colour, mark = marker(place)
    if isfinite(x.low) and isfinite(y.low):
        ax.errorbar(x.mean, y.mean, xerr=x.high - x.mean, yerr=y.high - y.mean, color=colour, elinewidth=0.9, capsize=2,
                    alpha=0.7, linestyle="none")  # fmt: skip
    # Hollow, and below the seeds' marks: where seeds agree, these lie inside it.
    ax.plot(x.mean, y.mean, marker=mark, markersize=8, markerfacecolor="none", markeredgecolor=colour, zorder=2)


def _handle(place: int, name: str) -> Line2D:
    colour, mark = marker(place)
    style = {"markersize": 6, "markerfacecolor": "none", "linestyle": "none"}
    return Line2D([], [], color=colour, marker=mark, label=label(name), **style)  # type: ignore[arg-type]


def _view(ax: Axes, points: Sequence[Point]) -> None:
    """Show all points and the origin; Student's intervals of two or three seeds can be wider than all else."""
    xs, ys = zip(*points, strict=True)
    ax.set_xlim(*_around(xs))
    ax.set_ylim(*_around(ys))


def _around(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.12 * (high - low) or 1.0
    return low - room, high + room


def _caption(points: dict[str, dict[int, Point]], joined: bool) -> str:
    counts = sorted({len(own) for own in points.values()})
    bars = "bars: Student's 95% intervals over seeds, cut at the frame"
    return (
        "Means over validation pairs at the last validation. Small marks: one a seed; large hollow marks: their mean; "
        f"{bars if counts[-1] > 1 else 'one seed, so no intervals'}. n = {' to '.join(map(str, counts))} an arm."
    ) + (" Dotted lines join the values of one setting." if joined else "")


def _grids(arms: Sequence[Arm]) -> Iterator[list[Arm]]:
    """Arms of one objective that differ in one number alone, in its order."""
    lines: dict[tuple[str, str], dict[str, Arm]] = {}
    for one, other in combinations(arms, 2):
        keys = {k for k in one.settings.keys() | other.settings.keys() if one.settings.get(k) != other.settings.get(k)}
        if one.objective == other.objective and len(keys) == 1:
            key = keys.pop()
            rest = str(sorted((k, str(v)) for k, v in one.settings.items() if k != key))
            if all(type(arm.settings.get(key)) in (int, float) for arm in (one, other)):
                lines.setdefault((key, rest), {}).update({one.name: one, other.name: other})
    for (key, _), own in lines.items():
        yield sorted(own.values(), key=lambda arm, key=key: arm.settings[key])  # type: ignore[misc]
