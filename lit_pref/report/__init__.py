"""Reports of runs: their numbers side by side, with figures, on one page. Reads files; imports no torch."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["write_report"]


def write_report(folders: Path | Sequence[Path], out: Path, baseline: str | None = None) -> Path:
    """Compare runs and write report.html, report.md, table.csv, table.tex and figures/.

    Args:
        folders: one or several, of runs or above them; that of ``lit-pref compare`` names and orders its arms.
        out: folder that is written to, made if need be; the same runs give the same bytes.
        baseline: name of the arm that others are compared with; by default the first one.

    Returns:
        The path of report.html.

    Raises:
        ConfigError: there is no run that can be compared, or no arm of this name.
        DataError: two runs of one seed began elsewhere, were measured on other pairs, or are the same run twice.
        SetupError: the files cannot be written.
    """
    from .writing import document_of, write_document  # a second of import, for those that report

    named = [folders] if isinstance(folders, Path) else list(folders)
    return write_document(document_of(named, out, baseline), out)
