"""Whether CHES before training told which pairs would be displaced: a panel an arm. Knows arms and validations."""

from collections.abc import Mapping

import numpy as np

from ..evidence import Evidence, evidence_of
from .arms import Arm
from .drawing import CHOSEN, REJECTED, Drawing, label, panels, zero
from .numbers import signed
from .validations import Validations, pairs_of

#: Column -> name of its figure, title, and label of its axis.
MEASURES = {
    "ln_ches": ("ln_ches", "Length-normalised CHES and displacement", "length-normalised CHES (hidden units²)"),
    "ches": ("ches", "CHES and displacement", "CHES (hidden units²)"),
}
RESAMPLES = 500
#: Points of one panel; of more pairs, every k-th is drawn, and all are counted.
MOST_POINTS = 300


def draw(column: str, arms: list[Arm], validations: Mapping[str, list[Validations]]) -> Drawing | str:
    """The figure of one measure, or why there is none."""
    name, title, axis = MEASURES[column]
    found = {arm.name: points for arm in arms if (points := _points(column, validations[arm.name])) is not None}
    if not found:
        return f"no arm has {column} of step 0 in trajectories.parquet"
    figure, axes = panels(len(found), height=1.75, share_y=False)
    rows: list[tuple[object, ...]] = []
    for ax, (arm, (before, after)) in zip(axes, found.items(), strict=True):
        told = evidence_of(before, -after, RESAMPLES)
        shown = np.flatnonzero(np.isfinite(before) & np.isfinite(after))
        shown = shown[:: max(1, -(-len(shown) // MOST_POINTS))]
        for fell, colour, mark in ((True, REJECTED, "v"), (False, CHOSEN, "o")):
            own = shown[(after[shown] < 0) == fell]
            ax.scatter(before[own], after[own], s=8, marker=mark, color=colour, alpha=0.85, linewidths=0,
                       label="fell" if fell else "did not fall")  # fmt: skip
        zero(ax)
        ax.set_title(f"{label(arm)}\n{_said(told)}", fontsize=7.5)
        ax.locator_params(axis="both", nbins=4)
        numbers = (told.pairs, told.spearman, told.low, told.high)
        rows += [(arm, *map(float, point), *numbers) for point in zip(before, after, strict=True)]
    figure.supxlabel(f"{axis}, before training", fontsize=8)
    figure.supylabel("change of chosen log-probability (nats)", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, markerscale=1.6)
    caption = (
        f"{axis[0].upper()}{axis[1:]} of each validation pair under the initial policy, and the change of its chosen "
        "log-probability at the last validation (nats); a point a pair, the mean over seeds. Each panel has "
        "its own vertical range. ρ: Spearman's correlation "
        "with the fall, positive where higher values fell more; in brackets its 95% bootstrap interval over pairs "
        f"({RESAMPLES} resamples). n = {' or '.join(dict.fromkeys(f'{row[3]:,}' for row in rows))} pairs an arm."
    )
    head = ["arm", f"{column}_before", "chosen_change_nats", "n", "spearman_with_fall", "low", "high"]
    return Drawing(name, title, caption, figure, head, rows)


def _points(column: str, runs: list[Validations]) -> tuple[np.ndarray, np.ndarray] | None:
    """(n,) values at step 0 and changes at the end of the same pairs, both means over seeds.

    Seeds repeat a pair rather than add one, so a pair is one point, and the bootstrap draws pairs.
    """
    values: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for run in runs:
        if not len(run.steps) or run.steps[0] != 0 or len(run.steps) < 2:
            continue
        first = run.at(run.steps[:1], "row", column)
        last = run.at(run.steps[-1:], "row", "chosen_displacement")
        if first is None or last is None:
            continue
        ended = dict(zip(last["row"].tolist(), last["chosen_displacement"].tolist(), strict=True))
        for row, value in zip(first["row"].tolist(), first[column].tolist(), strict=True):
            if row in ended:
                values.setdefault((pairs_of(run.run), row), []).append((value, ended[row]))
    means = np.array([np.mean(own, axis=0) for own in values.values()]) if values else np.empty((0, 2))
    return (means[:, 0], means[:, 1]) if np.isfinite(means).all(1).any() else None


def _said(told: Evidence) -> str:
    if np.isnan(told.spearman):
        return "ρ undefined"
    ends = "" if np.isnan(told.low) else f" [{signed(told.low)}, {signed(told.high)}]"
    return f"ρ = {signed(told.spearman)}{ends}"
