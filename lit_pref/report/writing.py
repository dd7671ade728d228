"""A report from folders of runs, start to end. Knows the order of the steps and the names of the files."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..whole_file import write_text, write_whole
from . import (
    distribution_figure,
    mass_figure,
    refusal_figure,
    similarity_figure,
    token_figure,
    tradeoff_figure,
    trajectory_figure,
)
from .arms import Arm, in_order, sort_arms
from .comparability import check, remarks
from .comparison import Comparison, compare
from .discovery import find
from .document import Document
from .drawing import Drawing, save, style
from .markdown_text import text
from .moved import all_moved
from .omission import Omission
from .page import html
from .run import read_run
from .sentences import opening
from .tables import tex, write_csv
from .texts import plain
from .tokens import masses_of
from .validations import Validations

#: Title of every figure -> the name of its files.
FIGURES = {
    trajectory_figure.TITLE: trajectory_figure.NAME,
    distribution_figure.TITLE: distribution_figure.NAME,
    tradeoff_figure.TITLE: tradeoff_figure.NAME,
    similarity_figure.MEASURES["ln_ches"][1]: "ln_ches",
    similarity_figure.MEASURES["ches"][1]: "ches",
    refusal_figure.TITLE: refusal_figure.NAME,
    token_figure.TITLES["first"]: "tokens_first",
    token_figure.TITLES["overall"]: "tokens_overall",
    mass_figure.TITLE: mass_figure.NAME,
}


def document_of(folders: Sequence[Path], out: Path, baseline: str | None = None) -> Document:
    """Read the runs, compare them, and write the figures below ``out``; see ``write_report``."""
    found = find(folders)
    runs = [read_run(folder, plain(found.name(folder), 200)) for folder in found.folders]
    arms, omissions = sort_arms(runs)
    check(arms)
    omissions += [line for plan in found.plans for line in plan.omissions()]
    planned = [name for plan in found.plans for name in plan.names]
    if baseline not in {arm.name for arm in arms} and baseline in planned:
        omissions.append(Omission(str(baseline), "others were to be compared with it, but no run of it ended"))
        baseline = None
    comparison = compare(in_order(arms, planned), baseline)
    drawings, missing = _figures(comparison, out / "figures")
    moved = all_moved(comparison.arms)
    return Document(comparison, opening(comparison), drawings, missing, moved, omissions, remarks(comparison.arms))


def write_document(document: Document, out: Path) -> Path:
    """Write everything but the figures; the page comes last, so that where it is, all is."""
    write_whole(out / "table.csv", lambda path: write_csv(path, document.comparison))
    write_text(out / "table.tex", tex(document.comparison))
    write_text(out / "report.md", text(document))
    page = out / "report.html"
    write_text(page, html(document))
    return page


def _figures(found: Comparison, folder: Path) -> tuple[list[tuple[Drawing, str]], list[Omission]]:
    arms: list[Arm] = list(found.arms)
    validations = {arm.name: [Validations(run) for run in arm.runs.values()] for arm in arms}
    masses = masses_of(arms)
    makers: list[Callable[[], Drawing | str]] = [
        lambda: trajectory_figure.draw(arms, validations),
        lambda: distribution_figure.draw(arms, validations),
        lambda: tradeoff_figure.draw(found),
        lambda: similarity_figure.draw("ln_ches", arms, validations),
        lambda: similarity_figure.draw("ches", arms, validations),
        lambda: refusal_figure.draw(arms),
        lambda: token_figure.draw("first", masses),
        lambda: token_figure.draw("overall", masses),
        lambda: mass_figure.draw(masses),
    ]
    drawings, missing = [], []
    for (title, name), make in zip(FIGURES.items(), makers, strict=True):
        with style():
            made = make()
            if isinstance(made, Drawing):
                drawings.append((made, save(made, folder)))
                continue
        missing.append(Omission(title, made))
        for ending in ("png", "svg", "csv"):  # of an earlier report, which had it
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
    return drawings, missing
