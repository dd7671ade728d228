"""A report as Markdown. Knows a document and Markdown's tables; every foreign text is escaped."""

from collections.abc import Iterable, Sequence

from .document import TITLE, Document
from .omission import Omission
from .tables import Table, flat
from .texts import markdown


def text(document: Document) -> str:
    """The whole of report.md; figures are those beside it."""
    parts = [f"# {TITLE}", markdown(document.counts), *map(markdown, document.sentences), "## Numbers"]
    parts += [_table(document.means), markdown(document.about_means)]
    if document.differences.rows:
        parts += [f"## Differences from {markdown(document.comparison.baseline.name)}"]
        parts += [_table(document.differences), markdown(document.about_differences)]
    for drawing, _ in document.drawings:
        numbers = f"Numbers: [figures/{drawing.name}.csv](figures/{drawing.name}.csv)"
        parts += [f"## {drawing.title}", f"![{drawing.title}](figures/{drawing.name}.png)"]
        parts += [f"{markdown(drawing.caption)} {numbers}"]
    if document.moved:
        parts.append("## Pairs whose chosen response fell most")
    for arm, rows in document.moved.items():
        head = ["row", "seed", "chosen (nats)", "rejected (nats)", "prompt", "chosen", "rejected"]
        lines = [[row.row, str(row.seed), *row[2:]] for row in rows]
        parts += [f"### {markdown(arm)}", _lines(head, lines)]
    parts += ["## What was not compared, and why", *_reasons("Runs that are left out", document.omissions)]
    if not document.omissions:
        parts.append("No run was left out.")
    parts += _reasons("Figures that are not here", document.missing)
    parts += _reasons("To be known about the rest", document.remarks)
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    return _lines(table.head, flat(table))


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    texts = [f"| {' | '.join(map(markdown, line))} |" for line in lines]
    return "\n".join([texts[0], "|---" * len(head) + "|", *texts[1:]])


def _reasons(title: str, found: Sequence[Omission]) -> list[str]:
    if not found:
        return []
    return [f"### {title}", "\n".join(f"- **{markdown(name)}**: {markdown(why)}" for name, why in found)]
