"""Everything that a report says, before it is a page or a file. Knows its parts; nothing of any format."""

from dataclasses import dataclass

from .comparison import ALPHA, FEWEST, Comparison
from .drawing import Drawing
from .moved import Moved
from .numbers import counted, listed
from .omission import Omission
from .tables import Table, differences, families, means
from .texts import plain

TITLE = "Likelihood displacement, compared"


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        comparison: its numbers.
        sentences: it opens with these.
        drawings: its figures, each with its SVG for a page.
        missing: title of a figure -> why it is not there.
        moved: arm -> pairs that fell most.
        omissions: runs that are not compared, and why.
        remarks: what is missing in, or differs between, runs that are.
    """

    comparison: Comparison
    sentences: list[str]
    drawings: list[tuple[Drawing, str]]
    missing: list[Omission]
    moved: dict[str, list[Moved]]
    omissions: list[Omission]
    remarks: list[Omission]

    @property
    def means(self) -> Table:
        return means(self.comparison)

    @property
    def differences(self) -> Table:
        return differences(self.comparison)

    @property
    def counts(self) -> str:
        """How much is compared."""
        found = self.comparison
        seeds = ", ".join(map(str, found.seeds))
        return (
            f"{counted(len(found.arms), 'arm')}, {counted(found.runs, 'run')}, seeds {seeds}; the first arm, "
            f"{plain(found.baseline.name, 60)}, is the one that others are compared with."
        )

    @property
    def about_means(self) -> str:
        found = self.comparison
        ends = "in brackets Student's 95% interval over seeds"
        alone = [plain(arm.name, 40) for arm in found.arms if len(arm.runs) == 1]
        if alone:
            ends += f"; none for {listed(alone)}, of one seed"
        ends += (
            ". Intervals speak of what the seed decides, such as the order of pairs, and not of other models or data "
            "where all seeds have the same"
        )
        if len(alone) == len(found.arms):
            ends = "one seed, so no intervals"
        return (
            "Means over validation pairs at each run's last validation, then over seeds; "
            f"{ends}. Changes of log-probability are against the initial policy, in nats (sums over a response; per "
            "token where said). Losses and rewards are left out: each objective has its own, in its own scale."
        )

    @property
    def about_differences(self) -> str:
        families_said = families(self.comparison)
        if not families_said:
            return (
                "No difference can be tested: that takes two or more seeds that both arms have, and differences that "
                "vary between them."
            )
        return (
            f"Each arm minus {plain(self.comparison.baseline.name, 60)}, over the n seeds that both have, with the "
            "paired t-test's 95% interval (not corrected) and p-value after Holm's correction; an asterisk where p < "
            f"{ALPHA}, n is {FEWEST} or more and the difference is not 0 as printed; p is undefined where a difference "
            "is the same at all seeds but for rounding. Corrected together are all arms and metrics of a family"
            f": {'; '.join(families_said)}. Shares differ in percentage points."
        )
