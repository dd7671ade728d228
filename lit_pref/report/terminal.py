"""What a report says on a terminal. Knows a document and a width; every foreign text is on one line and plain."""

import sys

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from ..console import say
from .document import Document
from .metrics import CHOSEN, MARGIN
from .tables import Table
from .texts import plain

#: What stands in a terminal, which is narrow; the files have everything.
SHOWN = (CHOSEN.tag, "displacement/rejected", MARGIN.tag, "displacement/share_displaced")


def show(document: Document) -> None:
    """Print the opening sentences and a table: a grid on a terminal, tabs between plain cells elsewhere."""
    for sentence in document.sentences:
        say(plain(sentence, 2000))
    table = _narrow(document)
    if sys.stdout.isatty():
        grid = Grid()
        for head in table.head:
            grid.add_column(Text(head))
        for arm, cells in table.rows:
            texts = [Text("\n".join([cell.value, *cell.detail])) for cell in cells]
            grid.add_row(Text(plain(arm, 40)), *texts)
        Console().print(grid)
    else:
        say("\t".join(table.head))
        for arm, cells in table.rows:
            say("\t".join([plain(arm, 60), *(" ".join([cell.value, *cell.detail]) for cell in cells)]))
    for what, lines in (("Not compared", document.omissions), ("No figure", document.missing)):
        for name, why in lines:
            say(f"{what}: {plain(name, 200)}: {plain(why, 200)}")


def _narrow(document: Document) -> Table:
    table, found = document.means, document.comparison
    first = len(table.head) - len(found.metrics)
    places = [
        first + i
        for i, metric in enumerate(found.metrics)
        if metric.tag in SHOWN or metric.tag.startswith(("refusal/rate_", "refusal/over_rate_"))
    ]
    kept = [0, 1, *places]
    return Table([table.head[i] for i in kept], [(arm, [cells[i - 1] for i in kept[1:]]) for arm, cells in table.rows])
