"""Counting what became of every row, and saying so: summary, `bad_rows.jsonl`, the error that stops.

Knows problems and counts; nothing about how they were found.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from .excerpts import printable
from .rows import REMOVES, Action, DataError, Problem, Row

OnBadRow = Literal["error", "drop"]
_LISTED = 10  # further rows named in a message
_DROP = "`--data.on_bad_row=drop` drops and lists such rows"


class RowReport:
    """What became of the rows of one source; kept + dropped + refused is always total.

    `refused` counts rows a check refuses, whether the run stops for them or goes on without them; `dropped`
    counts rows that are never used, such as pairs with two identical responses.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.total = self.kept = self.dropped = self.refused = 0
        self.removed: list[Problem] = []  # one for each row that was dropped or refused
        self._gone: set[int] = set()
        self._counts: Counter[tuple[Action, str]] = Counter()
        self._first: dict[tuple[Action, str], list[Problem]] = {}

    def collect(self, stream: Iterable[Row | Problem]) -> Iterator[Row]:
        """Pass the rows on and keep the problems; the counts are complete after the last row."""
        for item in stream:
            if isinstance(item, Problem):
                if item.action in REMOVES:
                    self.total += 1
                    self.kept += 1  # until `add` takes it out again
                self.add(item)
            else:
                self.total += 1
                self.kept += 1
                yield item

    def add(self, problem: Problem) -> None:
        """Take in a problem of a row that was kept so far; of several that remove a row, the first counts."""
        if problem.action in REMOVES:
            if problem.number is None:
                raise ValueError(f"a problem that removes a row must name the row: {problem}")
            if problem.number in self._gone:
                return
            self._gone.add(problem.number)
            self.removed.append(problem)
            self.kept -= 1
            self.refused += problem.action == "refuse"
            self.dropped += problem.action == "drop"
        kind = (problem.action, problem.case)
        self._counts[kind] += 1
        first = self._first.setdefault(kind, [])
        if len(first) <= _LISTED:
            first.append(problem)

    def count(self, case: str) -> int:
        """How many problems of one case were found."""
        return sum(n for (_, name), n in self._counts.items() if name == case)

    def summary(self) -> str:
        """One line of counts, then one line for each kind of warning and note."""
        counts = f"{self.total:,} rows: {self.kept:,} kept"
        for name, n, action in (("dropped", self.dropped, "drop"), ("refused", self.refused, "refuse")):
            counts += f", {n:,} {name}{self._by_case((action,)) if n else ''}"
        lines = [counts]
        for action, word in (("warn", "warning"), ("note", "note")):
            lines += [
                f"{word}: {headline(first[0])} Fix: {first[0].fix}{self._more(kind)}."
                if action == "warn"
                else f"{word}: {headline(first[0])}{self._more(kind)}"
                for kind, first in self._first.items()
                if kind[0] == action
            ]
        return "\n".join(lines)

    def raise_if_refused(self, on_bad_row: OnBadRow) -> None:
        """After the last row: DataError for refused rows where they stop the run, or where no row is left."""
        if self.refused and on_bad_row == "error":
            kinds = [kind for kind in self._first if kind[0] == "refuse"]
            blocks = [self._block(kind) for kind in kinds]
            fine = f"  Nothing was trained. {self.kept:,} of {self.total:,} rows are fine."
            raise DataError("\n".join([*blocks, fine]), [case for _, case in kinds])
        if not self.kept:
            raise DataError(
                f"0 of {self.total:,} rows are left in {printable(self.source)}{self._by_case(REMOVES)}.\n"
                "  Fix: see the reasons in bad_rows.jsonl; correct the rows or the setting.\n"
                "  Nothing was trained.",
                ["no-rows-left"],
            )

    def write(self, path: Path | str) -> None:
        """Write `bad_rows.jsonl`: one object for each removed row, in ASCII; empty where there is none."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="ascii") as stream:
            for problem in self.removed:
                fields = {"case": problem.case, "row": problem.number, **problem._asdict()}
                del fields["number"]
                stream.write(json.dumps(fields) + "\n")

    def _by_case(self, actions: Iterable[str]) -> str:
        counts = [f"{n:,} {case.replace('-', ' ')}" for (a, case), n in self._counts.items() if a in actions]
        return f" ({', '.join(counts)})" if counts else ""

    def _block(self, kind: tuple[Action, str]) -> str:
        first = self._first[kind][0]
        return f"{headline(first)}\n  Fix: {first.fix}; {_DROP}{self._more(kind)}."

    def _more(self, kind: tuple[Action, str]) -> str:
        """The rows a case was found in beyond the first: ` (3 more: rows 402, 418, 977)`."""
        more = self._counts[kind] - 1
        if not more:
            return ""
        rows = [str(p.number) for p in self._first[kind][1:] if p.number is not None]
        rest = f" and {more - len(rows):,} more" if rows and more > len(rows) else ""
        listed = f": row{'s' if len(rows) > 1 else ''} {', '.join(rows)}{rest}" if rows else ""
        return f" ({more:,} more{listed})"


def headline(problem: Problem) -> str:
    """Where, which field, what was found and why that is wrong, on one line."""
    where = printable(problem.where)
    if problem.number is not None and not where.endswith(f"row {problem.number}"):
        where += f" (row {problem.number})"
    if problem.field is not None:
        where += f' field "{printable(problem.field)}"'
    return f"{where}: {problem.found}{' — ' if problem.found else ''}{problem.message}"
