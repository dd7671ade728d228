"""What the numbers of the composition experiment say in words, and what they do not. Knows counts and cells."""

from collections.abc import Callable, Sequence

from ..refusal_statistics import MAX_ABSTAIN
from .composition_cells import BEFORE, Cell, Runs, counts_of
from .mixed_share import share_title
from .refusal_difference import difference

WORDS = {-1: "lower", 1: "higher", 0: "no change established"}
#: More cells without an established change are counted.
MOST_NAMED = 10


def sentences(runs: Runs, baseline: str) -> str:
    """A list in Markdown: of every cell whether its refusals differ from the initial model's beyond chance."""
    cells = [cell for cell in runs if cell != BEFORE]
    plain = [cell for cell in cells if cell.arm == baseline]
    lines = []
    for tie_break in dict.fromkeys(cell.tie_break for cell in cells):
        own = [cell for cell in plain if cell.tie_break == tie_break]
        lines.append(f"Held-out harmful prompts, {baseline}, ties {tie_break}, by share of mixed pairs: refusal "
                     f"{_sorted_out(runs, 'test', own, _share)}.")  # fmt: skip
        own = [cell for cell in cells if cell.tie_break == tie_break and cell not in plain]
        if own:
            lines.append(f"The same, other arms, ties {tie_break}, {_share(own[0])} mixed: refusal "
                         f"{_sorted_out(runs, 'test', own, lambda cell: cell.arm)}.")  # fmt: skip
    lines.append(_both_ways(runs, plain, baseline))
    lines.append(f"Harmless prompts: refusal {_sorted_out(runs, 'control', cells, _title)}.")
    unsaid = [cell for cell in cells if any(c.abstained > MAX_ABSTAIN for c in counts_of(runs, cell, "test"))]
    lines.append(f"More than {MAX_ABSTAIN:.0%} of the answers of a run to held-out harmful prompts have no verdict: "
                 f"{', '.join(map(_title, unsaid)) or 'nowhere'}.")  # fmt: skip
    lines.append("Lower and higher than before training: the 95% interval over runs of the difference is on one side "
                 f"of zero. These are {2 * len(cells)} comparisons without a correction for their number; one in "
                 "twenty would be found where there is nothing.")  # fmt: skip
    return "\n".join(f"- {line}" for line in lines)


def _change(runs: Runs, part: str, cell: Cell) -> int:
    return difference(counts_of(runs, cell, part), counts_of(runs, BEFORE, part)).direction


def _sorted_out(runs: Runs, part: str, cells: Sequence[Cell], title: Callable[[Cell], str]) -> str:
    """Which cells refuse less than the initial model, which more, and of which neither is established."""
    groups: dict[int, list[str]] = {}
    for cell in cells:
        groups.setdefault(_change(runs, part, cell), []).append(title(cell))
    if len(groups.get(0, [])) > MOST_NAMED:
        groups[0] = [f"the other {len(groups[0])}" if len(groups) > 1 else f"all {len(groups[0])}"]
    return "; ".join(f"{WORDS[sign]}: {', '.join(groups[sign])}" for sign in WORDS if sign in groups)


def _both_ways(runs: Runs, plain: Sequence[Cell], baseline: str) -> str:
    """Of the cells that differ in their pairs only."""
    signs = [_change(runs, "test", cell) for cell in plain]
    less, more = signs.count(-1), signs.count(1)
    counted = f"refuses less in {less} and more in {more} of {len(plain)} compositions of the pairs"
    return f"{baseline} with the same settings {counted}{': the pairs decide which' if less and more else ''}."


def _share(cell: Cell) -> str:
    return share_title(cell.share)


def _title(cell: Cell) -> str:
    return " ".join(cell.titles)
