"""The numbers of a comparison in rows and columns, as text and for other programs. Knows cells; nothing of pages."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .comparison import Cell, Comparison
from .metrics import Metric
from .numbers import changed, counted, interval, is_nothing, probability, written
from .texts import csv_cell, latex, plain


class Shown(NamedTuple):
    """A cell for people.

    Attributes:
        value: the mean.
        detail: its interval and what else is to be known, in several lines; may be empty.
        strong: whether it is an established difference.
    """

    value: str
    detail: tuple[str, ...] = ()
    strong: bool = False


class Table(NamedTuple):
    """A table for people; the first column of each row is the arm."""

    head: list[str]
    rows: list[tuple[str, list[Shown]]]


def means(found: Comparison) -> Table:
    """A line an arm: number of seeds, steps, and the mean of each metric with its interval."""
    rows = []
    for arm in found.arms:
        steps = sorted({run.last.step or 0 for run in arm.runs.values()})
        said = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,}–{steps[-1]:,}"
        pairs = sorted({_pairs(run.manifest) for run in arm.runs.values()} - {0})
        counts = "–".join(f"{n:,}" for n in dict.fromkeys(pairs[:1] + pairs[-1:])) or "unknown"
        cells = [_mean(found.cells[arm.name][metric.tag], metric, len(arm.runs)) for metric in found.metrics]
        rows.append((arm.name, [Shown(str(len(arm.runs))), Shown(said), Shown(counts), *cells]))
    return Table(["arm", "seeds", "steps", "pairs", *(plain(m.head, 60) for m in found.metrics)], rows)


def differences(found: Comparison) -> Table:
    """A line an arm but the first: differences over common seeds, with intervals and adjusted p-values."""
    rows = [
        (arm.name, [_difference(found.cells[arm.name][metric.tag], metric) for metric in found.metrics])
        for arm in found.arms[1:]
    ]
    heads = [plain(f"{m.title} ({'points' if m.is_share else m.unit})", 60) for m in found.metrics]
    return Table(["arm", *heads], rows)


def families(found: Comparison) -> list[str]:
    """Which tests were corrected together, and how many they are."""
    said = []
    for family in dict.fromkeys(metric.family for metric in found.metrics):
        own = [metric for metric in found.metrics if metric.family == family]
        tests = max((found.cells[arm.name][m.tag].tests for arm in found.arms[1:] for m in own), default=0)
        if tests:
            said.append(f"{family} ({', '.join(plain(m.title, 60) for m in own)}): {counted(tests, 'test')}")
    return said


def write_csv(path: Path, found: Comparison) -> None:
    """A line for every arm and metric, with units, numbers of seeds and full precision; no number is ""."""
    head = ["arm", "metric", "unit", "seeds", "n", "mean", "low", "high", "baseline", "paired_n", "difference",
            "difference_low", "difference_high", "p", "p_holm", "family", "tests_in_family"]  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        for arm in found.arms:
            for metric in found.metrics:
                cell = found.cells[arm.name][metric.tag]
                change = [found.baseline.name, *cell.difference, cell.p_holm] if cell.difference else [""] * 7
                line = [arm.name, metric.tag, metric.unit, " ".join(map(str, cell.seeds)), *cell.estimate, *change]
                writer.writerow([csv_cell(value) for value in [*line, metric.family, cell.tests]])


def tex(found: Comparison) -> str:
    """A table for \\usepackage{booktabs}: means, and half the width of their intervals."""
    metrics = [metric for metric in found.metrics if metric.family != "abstentions"]
    lines = [
        "% Needs \\usepackage{booktabs}. Means over seeds, ± half the width of Student's 95% interval.",
        f"\\begin{{tabular}}{{l{'r' * (len(metrics) + 1)}}}",
        "\\toprule",
        " & ".join(["arm", "seeds", *(latex(metric.title) for metric in metrics)]) + r" \\",
        " & ".join(["", "", *(latex(f"({metric.unit})") for metric in metrics)]) + r" \\",
        "\\midrule",
    ]
    for arm in found.arms:
        cells = [_tex_cell(found.cells[arm.name][metric.tag], metric) for metric in metrics]
        lines.append(" & ".join([latex(arm.name), str(len(arm.runs)), *cells]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _mean(cell: Cell, metric: Metric, runs: int) -> Shown:
    if not cell.estimate.n:
        return Shown("–")
    detail = [interval(cell.estimate.low, cell.estimate.high, metric.unit)]
    if cell.estimate.n < runs:
        detail.append(f"{cell.estimate.n} of {runs} seeds")
    return Shown(written(cell.estimate.mean, metric.unit), tuple(filter(None, detail)))


def _difference(cell: Cell, metric: Metric) -> Shown:
    found = cell.difference
    if found is None or not found.n:
        return Shown("–")
    p = f"p = {probability(cell.p_holm)}".replace("= <", "<") if cell.tests else ""
    detail = [interval(found.low, found.high, metric.unit, difference=True), p, f"n = {found.n}"]
    strong = cell.established and not is_nothing(found.mean, metric.unit)
    return Shown(changed(found.mean, metric.unit) + "*" * strong, tuple(filter(None, detail)), strong)


def _tex_cell(cell: Cell, metric: Metric) -> str:
    if not cell.estimate.n:
        return "--"
    value = latex(written(cell.estimate.mean, metric.unit))
    half = (cell.estimate.high - cell.estimate.low) / 2
    if half != half:  # no interval
        return value
    return f"{value} $\\pm$ {100 * half:.1f}" if metric.is_share else f"{value} $\\pm$ {half:.2f}"


def _pairs(manifest: object) -> int:
    pairs = manifest.get("pairs") if isinstance(manifest, dict) else None
    count = pairs.get("val") if isinstance(pairs, dict) else None
    return count if isinstance(count, int) else 0


def flat(table: Table) -> Iterator[list[str]]:
    """Rows of one text a cell."""
    for arm, cells in table.rows:
        yield [plain(arm, 60), *(" ".join([cell.value, *cell.detail]) for cell in cells)]
