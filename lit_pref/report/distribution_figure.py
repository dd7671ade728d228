"""How far single pairs moved in the end: a box an arm and response. Knows arms and validations."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from .arms import Arm
from .drawing import CHOSEN, INK, REJECTED, Drawing, blank, label, zero
from .validations import Validations

NAME = "distribution"
TITLE = "Displacement of single pairs"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SIDES = {
    "chosen": ("chosen_displacement", CHOSEN, "", -0.19),
    "rejected": ("rejected_displacement", REJECTED, "/////", 0.19),
}


def draw(arms: list[Arm], validations: Mapping[str, list[Validations]]) -> Drawing | str:
    """The figure, or why there is none."""
    found = {arm.name: values for arm in arms if (values := _last(validations[arm.name]))}
    if not found:
        return "no arm has trajectories.parquet"
    figure = blank(0.95 + 0.42 * len(found))
    ax = figure.subplots()
    rows: list[tuple[object, ...]] = []
    for place, (arm, sides) in enumerate(found.items()):
        for side, (_, colour, hatch, shift) in SIDES.items():
            values = sides[side][np.isfinite(sides[side])]
            lost = len(sides[side]) - len(values)
            if not len(values):
                continue
            q = np.quantile(values, QUANTILES)
            mean = float(values.mean())
            rows.append((arm, side, len(values), lost, *map(float, q), mean))
            _box(ax, place + shift, q, mean, {"facecolor": colour, "hatch": hatch, "alpha": 0.75})
    if not rows:
        return "no change of a log-probability is a finite number"
    zero(ax, vertical=True)
    ax.set_yticks(range(len(found)), [label(arm) for arm in found], fontsize=8)
    ax.set_ylim(len(found) - 0.5, -0.5)
    ax.set_xlabel("change of log-probability (nats)")
    marks = [Patch(facecolor=c, hatch=h, alpha=0.75, edgecolor=INK, label=side) for side, (_, c, h, _) in SIDES.items()]
    figure.legend(handles=marks, loc="outside upper center", ncols=2)
    lost = sum(int(row[3]) for row in rows)  # type: ignore[call-overload]
    caption = (
        "Change of the log-probability of each validation pair's responses at the last validation (nats), pairs and "
        "seeds together: boxes from 25% to 75% with the median, whiskers from 5% to 95%, diamonds at the mean. "
        f"n = {' or '.join(dict.fromkeys(f'{row[2]:,}' for row in rows))} an arm."
    ) + (f" {lost:,} values are not finite and are left out." if lost else "")
    head = ["arm", "response", "n", "not_finite", "q05", "q25", "median", "q75", "q95", "mean"]
    return Drawing(NAME, TITLE, caption, figure, head, rows)


def _box(ax: Axes, place: float, q: np.ndarray, mean: float, look: dict[str, Any]) -> None:
    stats = {"whislo": q[0], "q1": q[1], "med": q[2], "q3": q[3], "whishi": q[4], "mean": mean, "fliers": []}
    line = {"color": INK, "linewidth": 0.9}
    ax.bxp([stats], positions=[place], widths=0.32, orientation="horizontal", patch_artist=True, showfliers=False,
           showmeans=True, boxprops={**look, "linewidth": 0.8, "edgecolor": INK}, whiskerprops=line, capprops=line,
           medianprops={"color": INK, "linewidth": 1.6},
           meanprops={"marker": "D", "markersize": 3.5, "markerfacecolor": "white", "markeredgecolor": INK,
                      "markeredgewidth": 0.8})  # fmt: skip


def _last(runs: list[Validations]) -> dict[str, np.ndarray] | None:
    """side -> values of all pairs at the last validation of each run."""
    columns = [column for column, *_ in SIDES.values()]
    tables = [table for run in runs if len(run.steps) and (table := run.at(run.steps[-1:], *columns)) is not None]
    if not tables:
        return None
    return {side: np.concatenate([t[column] for t in tables]) for side, (column, *_) in SIDES.items()}
