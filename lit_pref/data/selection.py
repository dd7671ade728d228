"""Filtering before training: the pairs that a rule chooses by scores in a file. Knows files of scores and rules."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ..console import say
from ..pruning import Rule
from .rows import DataError
from .tokenized import content_of


@dataclass
class Selection:
    """Train on the pairs that a rule chooses by the scores of ``lit-pref score``, as the paper filters.

    Attributes:
        scores: Parquet file of ``lit-pref score``, of the same data.
        rule: which pairs to keep.
        measure: column of the file that the rule reads.
        match_steps: repeat the kept pairs, so that an epoch takes as many optimizer steps as one of all pairs.
    """

    scores: str
    rule: Rule
    measure: str = "ln_ches"
    match_steps: bool = False

    def apply(self, data: Any) -> None:
        """Keep the chosen ones among the training pairs of a PreferenceData that is set up, and say how many."""
        scores = self.scores_of(data.train.rows[data.kept].tolist(), content_of(data.train))
        candidates = data.candidates(data.kept, scores, 0)
        kept = self.rule.choose(candidates).kept
        data.keep(candidates.rows[kept].tolist(), self.match_steps)
        say(f"{self.scores}: {int(kept.sum()):,} of {len(kept):,} training pairs are kept by {self.measure}.")

    def scores_of(self, rows: list[int], content: str) -> Tensor:
        """(n,) scores of these rows; DataError where the file has none of them or belongs to other data.

        Args:
            rows: n row numbers.
            content: fingerprint of the data that are about to be trained on.
        """
        path = Path(self.scores).expanduser()
        try:
            names = pq.read_schema(path).names
            table = pq.read_table(path, columns=[n for n in ("data", "row", self.measure) if n in names])
        except (OSError, pa.ArrowException) as error:
            raise _refused(f"{path}: not a file of scores ({error}).", "write one with lit-pref score") from error
        missing = [name for name in ("data", "row", self.measure) if name not in names]
        if missing:
            raise _refused(
                f"{path}: has no column {missing[0]!r}; columns: {', '.join(names)}.",
                "set data.selection.measure to one of them, or score the data with lit-pref score",
            )
        found = table["data"].unique().to_pylist()
        if found != [content]:
            raise _refused(
                f"{path}: holds scores of data with the fingerprint {', '.join(map(str, found)) or 'none'}, but "
                f"data.path holds {content}.",
                "score these data with lit-pref score",
            )
        scores = dict(zip(table["row"].to_pylist(), table[self.measure].to_pylist(), strict=True))
        unscored = [row for row in rows if row not in scores]
        if unscored:
            raise _refused(
                f"{path}: has no scores of {len(unscored):,} of {len(rows):,} training pairs (row {unscored[0]}, ...).",
                "score the data with the same data.max_length and template",
            )
        values = [scores[row] for row in rows]
        return torch.tensor([float("nan") if v is None else v for v in values], dtype=torch.float64)


def _refused(message: str, fix: str) -> DataError:
    return DataError(f"{message}\n  Fix: {fix}.\n  Nothing was trained.", ["scores-unusable"])
