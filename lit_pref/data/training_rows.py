"""Which pairs of a source are trained on from the next epoch on; checkpoints carry it. Knows no rule that chooses."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..console import say
from ..pruning import Candidates
from .cache import CachedPairs
from .kept_rows import other_data
from .rows import DataError
from .tokenized import content_of


class TrainingRows:
    """The pairs that may be trained on, and those of them that are.

    Args:
        pairs: all pairs of the source.
        positions: those that may be trained on, in the order of the data; the others validate.
    """

    def __init__(self, pairs: CachedPairs, positions: list[int]) -> None:
        self.pairs = pairs
        self.positions = positions
        #: Positions that are trained on.
        self.kept = positions
        #: Pairs an epoch trains on: more than are kept where they are repeated.
        self.length = len(positions)
        self._configured = (self.kept, self.length)

    def keep(self, rows: Sequence[int], match_steps: bool = False) -> None:
        """Train on these rows from the next epoch on.

        Args:
            rows: row numbers of the source; those that may not be trained on are passed over.
            match_steps: repeat them, so that an epoch takes as many optimizer steps as one of all pairs.
        """
        wanted = set(rows)
        kept = [p for p in self.positions if int(self.pairs.rows[p]) in wanted]
        if not kept:
            raise DataError("none of the rows to keep is a training row, so nothing can be trained", ["no-rows-left"])
        self.kept = kept
        self.length = len(self.positions) if match_steps else len(kept)

    def candidates(
        self, positions: Sequence[int], scores: Tensor, epoch: int, seed: int, names: Sequence[str]
    ) -> Candidates:
        """What a pruning rule is told of the pairs at some positions.

        Args:
            positions: n of them.
            scores: (n,) their scores.
            epoch: the epoch that the choice is for.
            seed: of whatever a rule draws.
            names: the columns that labels are of.
        """
        chosen = list(positions)
        bounds = torch.from_numpy(self.pairs.bounds[chosen])  # (n, 4)
        labels = {
            name: [self.pairs.labels[p][i] for p in chosen] if self.pairs.labels else [None] * len(chosen)
            for i, name in enumerate(names)
        }
        rows = torch.from_numpy(self.pairs.rows[chosen])
        lengths = bounds.diff(dim=-1)  # (n, 3) of prompt, chosen, rejected
        return Candidates(rows, scores.double(), lengths[:, 1], lengths[:, 2], labels, epoch, seed)

    def configured(self) -> None:
        """Remember what is kept now as what the configuration asks for: checkpoints leave that to configurations."""
        self._configured = (self.kept, self.length)

    def state_dict(self) -> dict[str, Any]:
        """The rows that were chosen while training, with the fingerprint of their data; nothing where none were."""
        if (self.kept, self.length) == self._configured:
            return {}
        state = {"data": content_of(self.pairs), "rows": self.pairs.rows[self.kept].tolist()}
        return {**state, "match_steps": self.length != len(self.kept)}

    def load_state_dict(self, state: dict[str, Any], training: bool) -> None:
        """Keep what was chosen while training, and say so; rows of other data are refused where they would be trained.

        Args:
            state: of ``state_dict``.
            training: whether these rows are about to be trained on.
        """
        if state and state["data"] == content_of(self.pairs):
            self.keep(state["rows"], state["match_steps"])
            if training:
                say(
                    f"The checkpoint goes on with {len(self.kept):,} of {len(self.positions):,} training pairs, "
                    "chosen while it was trained."
                )
        elif state and training:
            raise other_data("the checkpoint", state["data"], content_of(self.pairs))
