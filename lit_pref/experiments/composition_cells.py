"""What the composition experiment counts, by cell. Knows names and counts; nothing about how they come about."""

from typing import Any, NamedTuple

from ..refusal_statistics import RefusalCounts
from .mixed_share import Share, share_name, share_title
from .preference_arms import INITIAL


class Cell(NamedTuple):
    """What one model of a seed was trained on, and how.

    Attributes:
        tie_break: name of the rule that decided between responses of like verdict; empty before training.
        share: of mixed pairs.
        arm: name of the training.
    """

    tie_break: str
    share: Share
    arm: str

    @property
    def name(self) -> str:
        """For files."""
        return f"{self.tie_break}_mixed{share_name(self.share)}_{self.arm}"

    @property
    def model(self) -> str:
        """As the verdicts on its answers name it."""
        return INITIAL if self == BEFORE else self.name

    @property
    def titles(self) -> tuple[str, str, str]:
        """For people, one part a column."""
        return ("–", "–", self.arm) if self == BEFORE else (self.tie_break, share_title(self.share), self.arm)


#: The model before training; it is the same for all cells of a seed.
BEFORE = Cell("", "all", INITIAL)
#: cell -> seed -> set of prompts -> counts
Runs = dict[Cell, dict[int, dict[str, RefusalCounts]]]
#: cell -> seed -> displacement, pairs, steps, classes
Facts = dict[Cell, dict[int, dict[str, Any]]]


def counts_of(runs: Runs, cell: Cell, part: str) -> list[RefusalCounts]:
    """A cell's counts on one set of prompts, seeds in ascending order."""
    return [own[part] for _, own in sorted(runs[cell].items())]
