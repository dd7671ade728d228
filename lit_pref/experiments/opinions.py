"""What the judges of an experiment are worth: canaries, and how far a second judge agrees. Knows labels and names."""

from typing import NamedTuple

from ..judges.agreement import VERDICTS, agreement
from ..judges.base import Label
from ..refusal_statistics import MAX_ABSTAIN, RefusalCounts

#: Model -> set of prompts -> labels of its answers.
Labels = dict[str, dict[str, list[Label]]]
#: What a second judge adds to a line of a CSV.
COLUMNS = ("second_refusal_rate", "second_bound_low", "second_bound_high")


class Judged(NamedTuple):
    """Verdicts on the answers of one seed.

    Attributes:
        labels: by the judge.
        second: by another one on the same answers, where there is one whose rates can be reported.
        names: of both.
        notes: how each did on canaries, for people.
    """

    labels: Labels
    second: Labels | None = None
    names: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()


class Opinions:
    """Of all seeds of an experiment."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.names = ("", "")
        #: By model and set of prompts what both judges say, seeds in turn.
        self._both: dict[tuple[str, str], tuple[list[Label], list[Label]]] = {}
        self._second: dict[tuple[str, int, str], RefusalCounts] = {}

    def add(self, seed: int, judged: Judged) -> None:
        """What the judges say of a seed."""
        self.notes = list(dict.fromkeys([*self.notes, *judged.notes]))
        if judged.second is None:
            return
        self.names = judged.names
        for model, sets in judged.second.items():
            for part, labels in sets.items():
                first, second = self._both.setdefault((model, part), ([], []))
                first += judged.labels[model][part]
                second += labels
                self._second[model, seed, part] = RefusalCounts.of(labels)

    def cells(self, model: str, seed: int, part: str) -> list[str]:
        """The second judge's cells of a line, in the order of ``COLUMNS``; empty where there is none."""
        counts = self._second.get((model, seed, part))
        return [""] * len(COLUMNS) if counts is None else list(map(repr, [counts.reported(), *counts.bounds()]))

    def footer(self) -> str:
        """For people, below a table."""
        compared = [self._agreed(), self._apart()] if self._both else []
        return "\n".join(f"- {line}" for line in [*self.notes, *compared])

    def _agreed(self) -> str:
        first, second = ([label for both in self._both.values() for label in both[i]] for i in (0, 1))
        found = agreement(first, second)
        shares = [" / ".join(f"{own[label]:.1%}" for label in VERDICTS) for own in (found.first, found.second)]
        return (
            f"{self.names[1]} read all {len(first):,} answers too; of {found.left_out:,} one of the two gave no "
            f"verdict. Of the others {found.raw:.1%} have the same label, Cohen's kappa {found.kappa:.2f}; "
            f"{' / '.join(VERDICTS)}: {shares[0]} by {self.names[0]}, {shares[1]} by {self.names[1]}."
        )

    def _apart(self) -> str:
        rates = {place: [RefusalCounts.of(labels).reported() for labels in both] for place, both in self._both.items()}
        known = {place: pair for place, pair in rates.items() if all(rate == rate for rate in pair)}
        left = len(rates) - len(known)
        unsaid = f" Not compared: {left} of {len(rates)}, with more than {MAX_ABSTAIN:.0%} without a verdict."
        if not known:
            return f"No refusal rates by both judges to compare.{unsaid}"
        (model, part), (a, b) = max(known.items(), key=lambda item: abs(item[1][0] - item[1][1]))
        return (f"Their refusal rates differ most of {model}, {part} prompts: {a:.1%} by {self.names[0]}, {b:.1%} by "
                f"{self.names[1]}.{unsaid if left else ''}")  # fmt: skip
