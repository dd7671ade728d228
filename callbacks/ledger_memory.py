"""What a ledger compares its measurements with, and which pairs were trained on meanwhile. Knows no model, no file.

Legend: n pairs.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lit_pref.processes import Processes

Moment = dict[str, Tensor]


class LedgerMemory:
    """The first measurement and the one before the present epoch, each with the pairs trained on since.

    Attributes:
        first: of the first measurement: ``row``, ``chosen_logps``, measures, and ``trained``, (n,) bool, the pairs that
            were trained on since; empty before there is one.
        before: the same of the last measurement.
    """

    def __init__(self) -> None:
        self.first: Moment = {}
        self.before: Moment = {}
        self._seen: list[Tensor] = []  # rows of this process's batches that are not marked yet

    def saw(self, rows: Tensor) -> None:
        """A batch was trained on; costs nothing until ``gather``."""
        self._seen.append(rows)

    def gather(self, processes: Processes) -> None:
        """Mark what all processes have seen; called by all of them at the same moments."""
        if not self._seen:
            return
        rows = torch.cat(self._seen).cpu()
        self._seen = []
        for moment in (self.first, self.before):
            if moment:
                marks = torch.isin(moment["row"], rows).to(processes.wide).to(processes.device)
                moment["trained"] = moment["trained"] | (processes.total(marks) > 0).cpu()

    def remember(self, rows: Tensor, chosen_logps: Tensor, values: Mapping[str, Tensor]) -> None:
        """Take a measurement as the last one, and as the first one where there was none."""
        untrained = torch.zeros(len(rows), dtype=torch.bool)
        self.before = {"row": rows, "chosen_logps": chosen_logps.clone(), "trained": untrained, **values}
        if not self.first:
            self.first = dict(self.before)

    def forget(self) -> None:
        """Begin anew."""
        self.first, self.before, self._seen = {}, {}, []

    def state_dict(self) -> dict[str, Any]:
        """What a restart needs; ``gather`` comes first."""
        return {"first": dict(self.first), "before": dict(self.before)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.first, self.before, self._seen = dict(state["first"]), dict(state["before"]), []


def changes(moment: Moment, chosen_logps: Tensor, names: Iterable[str]) -> tuple[dict[str, Tensor], Tensor]:
    """Of the pairs trained on since a moment: their measures then, and how far they have come, in nats.

    Args:
        moment: one of a ``LedgerMemory``.
        chosen_logps: (n,) of its pairs, now.
        names: of measures; those that the moment lacks are left out.
    """
    trained = moment["trained"]
    values = {name: moment[name][trained] for name in names if name in moment}
    return values, (chosen_logps - moment["chosen_logps"])[trained]
