"""Numbers of the composition experiment as CSV and tables. Knows counts and cells; nothing about runs or models."""

import csv
from pathlib import Path

from ..refusal_statistics import MAX_ABSTAIN
from .composition_cells import BEFORE, Cell, Facts, Runs, counts_of
from .composition_sentence import sentences
from .mixed_share import CLASSES
from .opinions import COLUMNS, Opinions
from .refusal_cells import change_cell, complied, range_cell, rate_cell, without_verdict
from .refusal_difference import difference

TITLES = {"test": "Held-out harmful prompts", "train": "Harmful prompts of the training pairs",
          "control": "Harmless prompts, where a refusal is one too many"}  # fmt: skip
LABELS = ("refusal", "compliance", "partial", "unparseable", "error")


def write_csv(path: Path, runs: Runs, facts: Facts, opinions: Opinions) -> None:
    """A line for every cell, run and set of prompts."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["tie_break", "mixed_share", "arm", "seed", "prompts", *LABELS, "refusal_rate", "wilson_low",
                         "wilson_high", "bound_low", "bound_high", "displacement_nats", "pairs", *CLASSES,
                         "steps", *COLUMNS])  # fmt: skip
        for cell, own in runs.items():
            for seed, sets in own.items():
                known = facts.get(cell, {}).get(seed, {})
                held = [known.get("classes", {}).get(name, "") for name in CLASSES]
                about = [known.get("displacement", ""), known.get("pairs", ""), *held, known.get("steps", "")]
                for part, c in sets.items():
                    numbers = map(repr, [c.reported(), *c.interval(), *c.bounds()])
                    again = opinions.cells(cell.model, seed, part)
                    writer.writerow([*cell.titles, seed, part, *c.counts(), *numbers, *about, *again])


def text(runs: Runs, facts: Facts, baseline: str) -> str:
    """Markdown: what was trained on, a table for each set of prompts, how to read them, what follows."""
    parts = ["**What was trained on**", _trained(facts)]
    for part, title in TITLES.items():
        prompts = range_cell([c.total for c in counts_of(runs, BEFORE, part)])
        parts += [f"**{title}** ({prompts} a run)", _outcomes(runs, part, baseline)]
    return "\n\n".join([*parts, _legend(runs, facts), sentences(runs, baseline)])


def _trained(facts: Facts) -> str:
    rows = []
    for cell, own in facts.items():
        known = list(own.values())
        counts = [range_cell([fact["classes"][name] for fact in known]) for name in CLASSES]
        numbers = [range_cell([fact[key] for fact in known]) for key in ("pairs", "steps")]
        rows.append([*cell.titles, numbers[0], *counts, numbers[1], change_cell([f["displacement"] for f in known])])
    return _table(["ties", "mixed share", "arm", "pairs", *CLASSES, "steps", "change of chosen, nats"], rows)


def _outcomes(runs: Runs, part: str, baseline: str) -> str:
    rows = []
    for cell in runs:
        counts = counts_of(runs, cell, part)
        own = cell._replace(arm=baseline)
        cells = [rate_cell(counts), _against(runs, part, cell, BEFORE), _against(runs, part, cell, own)]
        rows.append([*cell.titles, *cells, rate_cell(complied(counts)), rate_cell(without_verdict(counts))])
    head = ["refuses", "minus initial model, points", f"minus {baseline} on the same pairs, points", "complies",
            "no verdict (garbled)"]  # fmt: skip
    return _table(["ties", "mixed share", "arm", *head], rows)


def _against(runs: Runs, part: str, cell: Cell, other: Cell) -> str:
    """The difference to another cell; nothing where it is the same one, or before training."""
    if cell in (BEFORE, other):
        return ""
    return difference(counts_of(runs, cell, part), counts_of(runs, other, part)).cell()


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _legend(runs: Runs, facts: Facts) -> str:
    steps = {fact["steps"] for own in facts.values() for fact in own.values()}
    same = f"Every model took {steps.pop()} optimizer steps" if len(steps) == 1 else "THE STEPS DIFFER BETWEEN MODELS"
    return (
        f"{same}, so cells with fewer pairs see each of them more often. Mean over {len(runs[BEFORE])} run(s). "
        "In parentheses, 95%: over runs (Student's t), then over prompts (Wilson, of the mean rate at the number of "
        "prompts of one run); of differences, which are paired by run, over runs only. Refusals and compliances are "
        "shares of the responses with a verdict, and the last column is the share without one. Where a run has more "
        f"than {MAX_ABSTAIN:.0%} of these, the rates if none and if all of them were refusals (compliances) stand in "
        "the place of the rate, and differences run from one bound to the other. The change of the chosen "
        "log-probability is the mean over the cell's own data file, trained on or not."
    )
