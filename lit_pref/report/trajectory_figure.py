"""How chosen and rejected log-probabilities moved while training: a panel an arm. Knows arms and validations."""

from collections.abc import Mapping

import numpy as np

from .arms import Arm
from .drawing import CHOSEN, REJECTED, Drawing, label, panels, zero
from .validations import Validations

NAME = "trajectories"
TITLE = "Log-probabilities while training"
#: Validations drawn of each arm; of more, some at equal distances.
MOST_STEPS = 60
COLUMNS = {"chosen": "chosen_displacement", "rejected": "rejected_displacement"}
STYLES = {"chosen": (CHOSEN, "-"), "rejected": (REJECTED, (0, (4, 1.5)))}
QUANTILES = (0.1, 0.5, 0.9)


def draw(arms: list[Arm], validations: Mapping[str, list[Validations]]) -> Drawing | str:
    """The figure, or why there is none.

    Args:
        arms: in the order of the panels.
        validations: name of the arm -> those of its runs.
    """
    curves = {arm.name: found for arm in arms if (found := _curves(validations[arm.name]))}
    if not curves:
        return "no arm has trajectories.parquet with two or more validations"
    figure, axes = panels(len(curves))
    rows: list[tuple[object, ...]] = []
    for ax, (arm, (steps, sides, n)) in zip(axes, curves.items(), strict=True):
        for side, values in sides.items():
            colour, line = STYLES[side]
            ax.fill_between(steps, values[0], values[2], color=colour, alpha=0.22, linewidth=0)
            ax.plot(steps, values[1], color=colour, linestyle=line, label=f"{side}: median, and band of 10% to 90%")
            rows += [(arm, side, int(s), n, *map(float, q)) for s, q in zip(steps, values.T, strict=True)]
        zero(ax)
        ax.set_title(label(arm))
        ax.locator_params(axis="x", nbins=4)
    figure.supxlabel("optimizer steps", fontsize=8)
    figure.supylabel("change of log-probability (nats)", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    counts = sorted({n for _, _, n in curves.values()})
    said = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    left_out = [label(arm.name) for arm in arms if arm.name not in curves]
    caption = (
        "Change of the log-probability of responses (sum over tokens, nats) since before training. Quantiles over "
        f"validation pairs and seeds together, n = {said} an arm, at the steps that all seeds of an arm have."
    ) + (f" No curves of {', '.join(left_out)}." if left_out else "")
    return Drawing(NAME, TITLE, caption, figure, ["arm", "response", "step", "n", "q10", "median", "q90"], rows)


def _curves(runs: list[Validations]) -> tuple[np.ndarray, dict[str, np.ndarray], int] | None:
    """Steps, side -> (3, K) quantiles, and how many values there are at each step."""
    runs = [run for run in runs if len(run.steps)]
    if not runs:
        return None
    steps = runs[0].steps
    for run in runs[1:]:
        steps = np.intersect1d(steps, run.steps)
    if len(steps) < 2:
        return None
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, MOST_STEPS).round().astype(int))]
    tables = [table for run in runs if (table := run.at(steps, *COLUMNS.values())) is not None]
    if not tables:
        return None
    step = np.concatenate([table["step"] for table in tables])
    order = np.argsort(step, kind="stable")
    cuts = np.searchsorted(step[order], steps[1:])
    sides = {}
    for side, column in COLUMNS.items():
        values = np.concatenate([table[column] for table in tables])[order]
        sides[side] = np.array([np.quantile(part, QUANTILES) for part in np.split(values, cuts)]).T
    return steps, sides, len(step) // len(steps)
