"""How figures look and how they become files. Knows colours, sizes and SVG; nothing of what is drawn.

One SVG serves light and dark pages: everything that is black is drawn in ``INK``, which the page replaces by its own
colour of text. Figures are made without pyplot, and the same numbers give the same bytes.
"""

import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..whole_file import write_whole
from .texts import csv_cell, plain

WIDTH = 6.2  # inches; with letters of 8 points, of a size with the text beside it
DPI = 200  # of PNG files
INK = "#010203"
#: Okabe and Ito's, told apart by every kind of eye; for grey there are markers, hatches and line styles.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")
CHOSEN, REJECTED = "#0072B2", "#D55E00"
#: Most letters of an arm's name in a figure.
LABEL = 24
SETTINGS: Any = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7.5, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.titlecolor": INK, "hatch.color": INK, "hatch.linewidth": 0.6, "svg.fonttype": "none", "lines.linewidth": 1.4,
    "axes.facecolor": "none", "patch.edgecolor": INK, "text.parse_math": False, "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,
}  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """A figure with the numbers behind it.

    Attributes:
        name: of its files.
        title: above it.
        caption: below it: what is drawn, with units and counts.
        figure: itself.
        head: names of the columns of its CSV.
        rows: of its CSV.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    head: Sequence[str]
    rows: Sequence[Sequence[object]]


@contextmanager
def style() -> Iterator[None]:
    """Everything of a figure is made and saved within this."""
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # A letter that the font lacks is a box in the PNG; browsers have fonts of their own for the SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def blank(height: float) -> Figure:
    """An empty figure."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def panels(count: int, height: float = 1.55, most: int = 3, share_y: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels of one horizontal axis in rows of ``most``, with room for a legend above."""
    columns = min(count, most)
    rows = -(-count // columns)
    figure = blank(height * rows + 0.55 + (0.5 if rows == 1 else 0))
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=share_y).flat)
    for empty in axes[count:]:
        empty.remove()
    for above in range(max(count - columns, 0), count):  # the lowest of each column, which may not be in the last row
        axes[above].tick_params(labelbottom=True)
    return figure, axes[:count]


def label(name: str) -> str:
    """An arm's name, short enough for a panel."""
    return plain(name, LABEL)


def marker(place: int) -> tuple[str, str]:
    """Colour and marker of the arm at this place; the pair is unlike that of 83 others."""
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]


def zero(axes: Axes, vertical: bool = False) -> None:
    """A thin line where nothing has changed."""
    line = axes.axvline if vertical else axes.axhline
    line(0, color=INK, alpha=0.5, linewidth=0.7, zorder=0)


def save(drawing: Drawing, folder: Path) -> str:
    """Write PNG, SVG and CSV, and give the SVG for a page.

    Raises:
        SetupError: a file cannot be written.
    """
    figure = drawing.figure
    figure.patch.set_gid("background")
    png, svg = io.BytesIO(), io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": drawing.name}):
        figure.savefig(png, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
        figure.savefig(svg, format="svg", facecolor="white", metadata=nothing)
    write_whole(folder / f"{drawing.name}.png", lambda path: path.write_bytes(png.getvalue()))
    write_whole(folder / f"{drawing.name}.svg", lambda path: path.write_bytes(svg.getvalue()))
    write_whole(folder / f"{drawing.name}.csv", lambda path: _write_csv(path, drawing))
    return inline(svg.getvalue().decode(), drawing.name, drawing.title)


def inline(svg: str, name: str, title: str) -> str:
    """An SVG for the inside of a page: names of its own, the page's colour, no declarations and no style sheet."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style[^>]*>.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg, count=2)
    svg = re.sub(r'(?<= id=")(?=[^"]+")', f"{name}-", svg)
    svg = re.sub(r'(url\(|xlink:href=")#', rf"\g<1>#{name}-", svg)
    svg = re.sub(r"^<svg ", f'<svg role="img" aria-label="{title}" ', svg)
    return svg.replace(INK, "currentColor").replace("<defs></defs>", "")


def _write_csv(path: Path, drawing: Drawing) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(drawing.head)
        writer.writerows([csv_cell(cell) for cell in row] for row in drawing.rows)
