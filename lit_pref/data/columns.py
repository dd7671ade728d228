"""Which column of a source is the prompt, which the chosen response, and so on.

Knows names only: nothing about what stands in a column.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from difflib import get_close_matches

from .excerpts import excerpt, printable
from .rows import DataError, Record

# What other data sets call the two sides; spelling alone cannot connect "good" with "chosen".
_OTHER_NAMES = {
    "prompt": ("question", "query", "instruction", "input", "context"),
    "chosen": ("good", "preferred", "accepted", "better", "winner", "positive", "chosen_response", "pos"),
    "rejected": ("bad", "dispreferred", "refused", "worse", "loser", "negative", "rejected_response", "neg"),
}


@dataclass(frozen=True)
class Columns:
    """The names of the columns to read, where they differ from the names of the attributes.

    Args:
        prompt: the prompt, as text or as chat turns. A source without this column has implicit prompts: what
            the two dialogues share. `null` asks for implicit prompts although the column is there.
        chosen: the preferred response, or the dialogue that ends with it.
        rejected: the other response, or the dialogue that ends with it.
        id: a name for the pair, text or whole number; need not exist.
        chosen_reward: the annotated score of the chosen response; need not exist.
        rejected_reward: the annotated score of the rejected response; need not exist.
    """

    prompt: str | None = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    id: str = "id"
    chosen_reward: str = "chosen_reward"
    rejected_reward: str = "rejected_reward"

    def __post_init__(self) -> None:
        names = [getattr(self, field.name) for field in fields(self)]
        twice = next((name for name in names if name is not None and names.count(name) > 1), None)
        if twice is not None:
            meant = [field.name for field in fields(self) if getattr(self, field.name) == twice]
            raise ValueError(f"data.columns: {' and '.join(meant)} name the same column {twice!r}; give each its own.")

    def found_in(self, head: Iterable[Record]) -> frozenset[str]:
        """The attributes whose column appears in the first rows; DataError for one that must be there.

        Must be there: chosen, rejected, and every column whose name the user wrote.
        """
        head = list(head)
        present = {name: None for record in head for name in record.fields}  # a set that keeps its order
        found = frozenset(field.name for field in fields(self) if getattr(self, field.name) in present)
        asked = {f.name for f in fields(self) if getattr(self, f.name) not in (f.default, None)}
        missing = [f.name for f in fields(self) if f.name in {"chosen", "rejected"} | asked and f.name not in found]
        if head and missing:
            raise self._not_found(head[0].where, missing, list(present))
        return found

    def _not_found(self, where: str, missing: list[str], present: list[str]) -> DataError:
        names = " or ".join(excerpt(getattr(self, name)) for name in missing)
        here = ", ".join(printable(name)[:40] for name in present[:30]) or "none"
        nearest = {name: self._nearest(name, present) for name in missing}
        near = ", ".join(printable(n) for n in nearest.values() if n)
        message = f"no column {names}; columns found: {here}.{f' Nearest: {near}.' if near else ''}"
        mapping = " ".join(f"--data.columns.{name}={nearest[name] or 'NAME'}" for name in missing)
        where = where.partition(" row ")[0]
        return DataError.of_file("no-such-column", where, message, f"say which column is meant: {printable(mapping)}")

    def _nearest(self, name: str, present: list[str]) -> str | None:
        taken = {getattr(self, f.name) for f in fields(self)}
        free = [column for column in present if column not in taken]
        lowered = {column.lower(): column for column in free}
        known = next((lowered[other] for other in _OTHER_NAMES.get(name, ()) if other in lowered), None)
        close = get_close_matches(getattr(self, name).lower(), lowered, 1, cutoff=0.6)
        return lowered[close[0]] if close else known
