"""The command ``lit-pref report RUNS``: words in, a report out. Knows its options, nothing of how it is made."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from ..command_end import plain_end
from ..console import say
from .discovery import Found, find, is_run

SUMMARY = (
    "Put runs side by side: numbers that are comparable under any objective, with intervals over seeds, figures, and "
    "tokens and pairs that moved most, on one page. Trains and loads nothing."
)


class ReportParser(argparse.ArgumentParser):
    """Says what was wrong in two lines."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"error: {message}\n  `lit-pref report --help` lists every option.\n")
        self.exit(2)


def parser() -> argparse.ArgumentParser:
    """Every option of the command."""
    made = ReportParser(prog="lit-pref report", description=SUMMARY, allow_abbrev=False)
    made.add_argument("runs", nargs="+", metavar="RUNS",
                      help="folders of runs (version_N), or above them, such as that of lit-pref compare")  # fmt: skip
    made.add_argument("--out", metavar="DIR", help="folder that is written to (default: report, beside the runs)")
    made.add_argument("--baseline", metavar="ARM", help="arm that others are compared with (default: the first)")
    made.add_argument("--print_config", action="store_true", help="print the options and end")
    return made


def run(args: Sequence[str]) -> None:
    """Run the command; a failure that the user can mend ends in a few lines and its exit code."""
    options = parser().parse_args(args)
    if options.print_config:
        values = {key: value for key, value in vars(options).items() if key != "print_config"}
        say(yaml.safe_dump(values, sort_keys=False).rstrip())
        sys.exit(0)
    folders = [Path(path).expanduser() for path in options.runs]
    with plain_end("Interrupted. The same command begins again; it takes seconds."):
        out = Path(options.out).expanduser() if options.out else beside(folders, find(folders))
        from .terminal import show
        from .writing import document_of, write_document

        document = document_of(folders, out, options.baseline)
        page = write_document(document, out)
        show(document)
        say(f"Report: {page}\nFiles: {out}")


def beside(folders: Sequence[Path], found: Found) -> Path:
    """Where a report goes by default: into the one folder that was named, else into the one above all runs."""
    if len(folders) == 1 and not is_run(folders[0]):
        return folders[0] / "report"
    return found.home / "report"
