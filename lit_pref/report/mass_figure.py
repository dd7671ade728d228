"""Where the probability of the first token went: benign, catastrophic and other tokens. Knows mass.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.patches import Patch

from .drawing import INK, Drawing, blank, label
from .numbers import counted
from .tokens import MASSES, group_masses

NAME = "mass"
TITLE = "Where the probability of the first token went"
STYLES = {
    "chosen": ("#0072B2", ""),
    "benign": ("#56B4E9", "...."),
    "catastrophic": ("#D55E00", "xxxx"),
    "rejected": ("#E69F00", "////"),
    "other": ("none", ""),
}


def draw(masses: Mapping[str, Sequence[Mapping[str, Any]]]) -> Drawing | str:
    """The figure, or why there is none."""
    found = {arm: masses_found for arm, files in masses.items() if (masses_found := group_masses(files))}
    if not found:
        return "no run has groups of tokens in mass.json (groups of callbacks.MassShift)"
    lines: list[tuple[str, str, dict[str, float], int]] = []
    for arm, (parts, runs) in found.items():
        for moment, place in (("before", 0), ("after", 1)):
            lines.append((arm, moment, {kind: pair[place] for kind, pair in parts.items()}, runs))
    shared = all(line[2] == lines[0][2] for line in lines[::2])
    shown = [("before training", "before", *lines[0][2:]), *lines[1::2]] if shared and len(found) > 1 else lines
    figure = blank(0.95 + 0.27 * len(shown))
    ax = figure.subplots()
    for place, (_, _, values, _) in enumerate(shown):
        left = 0.0
        for kind in MASSES:
            colour, hatch = STYLES[kind]
            if width := values.get(kind, 0.0):
                ax.barh(place, width, left=left, height=0.68, color=colour, hatch=hatch, edgecolor=INK, linewidth=0.6)
                left += width
    together = len(shown) < len(lines)
    names = [label(arm) if together else f"{label(arm)}, {moment}" for arm, moment, *_ in shown]
    ax.set_yticks(range(len(shown)), names, fontsize=8)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.set_xlim(0, 1)
    ax.set_xlabel("mean probability of the first token")
    marks = [Patch(facecolor=c, hatch=h, edgecolor=INK, linewidth=0.6, label=kind) for kind, (c, h) in STYLES.items()]
    figure.legend(handles=marks, loc="outside upper center", ncols=5)
    caption = (
        "Mean over validation pairs of the probability of the chosen response's first token, of others of its group "
        "(benign), of tokens of other groups (catastrophic), of the rejected response's first token, and of tokens of "
        f"no group (other), before and after training; means over {_runs(found)} an arm."
    )
    rows = [(arm, moment, kind, value, runs) for arm, moment, values, runs in lines for kind, value in values.items()]
    return Drawing(NAME, TITLE, caption, figure, ["arm", "moment", "tokens", "probability", "runs"], rows)


def _runs(found: Mapping[str, tuple[object, int]]) -> str:
    counts = sorted({runs for _, runs in found.values()})
    return counted(counts[0], "run") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"
