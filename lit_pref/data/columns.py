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
        labels: further columns of text or numbers that stay with each pair, such as the class of pair that a
            stratified pruning rule works within.
    """

    prompt: str | None = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    id: str = "id"
    chosen_reward: str = "chosen_reward"
    rejected_reward: str = "rejected_reward"
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [getattr(self, name) for name in self._single()]
        twice = next((name for name in names if name is not None and names.count(name) > 1), None)
        if twice is not None:
            meant = [name for name in self._single() if getattr(self, name) == twice]
            raise ValueError(f"data.columns: {' and '.join(meant)} name the same column {twice!r}; give each its own.")

    def found_in(self, head: Iterable[Record]) -> frozenset[str]:
        """The attributes whose column appears in the first rows; DataError for one that must be there.

        Must be there: chosen, rejected, and every column whose name the user wrote.
        """
        head = list(head)
        present = {name: None for record in head for name in record.fields}  # a set that keeps its order
        found = frozenset(name for name in self._single() if getattr(self, name) in present)
        asked = {name for name, default in self._single().items() if getattr(self, name) not in (default, None)}
        missing = [name for name in self._single() if name in {"chosen", "rejected"} | asked and name not in found]
        if head and missing:
            raise self._not_found(head[0].where, missing, list(present))
        lacking = next((label for label in self.labels if label not in present), None)
        if head and lacking is not None:
            raise self._no_label(head[0].where, lacking, list(present))
        return found

    @classmethod
    def _single(cls) -> dict[str, object]:
        """The attributes that name one column each, with their defaults."""
        return {field.name: field.default for field in fields(cls) if field.name != "labels"}

    def _no_label(self, where: str, label: str, present: list[str]) -> DataError:
        message = f"no column {excerpt(label)}; columns found: {_listed(present)}."
        return DataError.of_file("no-such-column", where.partition(" row ")[0], message, "correct data.columns.labels")

    def _not_found(self, where: str, missing: list[str], present: list[str]) -> DataError:
        names = " or ".join(excerpt(getattr(self, name)) for name in missing)
        nearest = {name: self._nearest(name, present) for name in missing}
        near = ", ".join(printable(n) for n in nearest.values() if n)
        message = f"no column {names}; columns found: {_listed(present)}.{f' Nearest: {near}.' if near else ''}"
        mapping = " ".join(f"--data.columns.{name}={nearest[name] or 'NAME'}" for name in missing)
        where = where.partition(" row ")[0]
        return DataError.of_file("no-such-column", where, message, f"say which column is meant: {printable(mapping)}")

    def _nearest(self, name: str, present: list[str]) -> str | None:
        taken = {getattr(self, attribute) for attribute in self._single()}
        free = [column for column in present if column not in taken]
        lowered = {column.lower(): column for column in free}
        known = next((lowered[other] for other in _OTHER_NAMES.get(name, ()) if other in lowered), None)
        close = get_close_matches(getattr(self, name).lower(), lowered, 1, cutoff=0.6)
        return lowered[close[0]] if close else known


def _listed(present: list[str]) -> str:
    return ", ".join(printable(name)[:40] for name in present[:30]) or "none"
