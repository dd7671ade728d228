"""Filtering before training: the pairs that a rule chooses by scores in a file. Knows files of scores and rules."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ..console import say
from ..pruning import Rule
from ..pruning.enough import too_few
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
        """Keep the chosen ones among the training pairs of a PreferenceData that is set up, and say how many.

        Raises:
            DataError: the file cannot be used, or less than one batch would be left.
        """
        self._compare(data.train.folder.name)
        scores = self.scores_of(data.train.rows[data.kept].tolist(), content_of(data.train))
        candidates = data.candidates(data.kept, scores, 0)
        choice = self.rule.choose(candidates)
        world_size = 1 if data.trainer is None else data.trainer.world_size
        reason = too_few(choice, scores, data.batch_size * world_size, self.measure)
        if reason is not None:
            raise DataError(f"data.selection {reason}\n  Nothing was trained.", ["pruned-too-far"])
        data.keep(candidates.rows[choice.kept].tolist(), self.match_steps)
        count = int(choice.kept.sum())
        say(f"{self.scores}: {count:,} of {len(scores):,} training pairs are kept by {self.measure}.")

    def scores_of(self, rows: list[int], content: str) -> Tensor:
        """(n,) scores of these rows; DataError where the file has none of them or belongs to other data.

        Args:
            rows: n row numbers.
            content: fingerprint of the data that are about to be trained on.
        """
        table = self._table()
        found = table["data"].unique().to_pylist()
        if found != [content]:
            raise _refused(
                f"{self.scores}: holds scores of data with the fingerprint {', '.join(map(str, found)) or 'none'}, but "
                f"data.path holds {content}.",
                "score these data with lit-pref score",
            )
        scores = dict(zip(table["row"].to_pylist(), table["score"].to_pylist(), strict=True))
        unscored = [row for row in rows if row not in scores]
        if unscored:
            raise _refused(
                f"{self.scores}: has no scores of {len(unscored):,} of {len(rows):,} training pairs, row {unscored[0]} "
                "among them.",
                "score the data with the same data.max_length and template",
            )
        values = [scores[row] for row in rows]
        return torch.tensor([float("nan") if v is None else v for v in values], dtype=torch.float64)

    def _table(self) -> pa.Table:
        """Columns data, row and score of the file."""
        path = Path(self.scores).expanduser()
        try:
            schema = pq.read_schema(path)
            measures = [f.name for f in schema if pa.types.is_floating(f.type)]
            missing = [name for name in ("data", "row") if name not in schema.names]
            if missing or self.measure not in measures:
                name = missing[0] if missing else self.measure
                what = f"has no column {name!r}" if name not in schema.names else f"column {name!r} holds no scores"
                raise _refused(
                    f"{path}: {what}; its measures: {', '.join(measures) or 'none'}.",
                    "set data.selection.measure to one of them, or score the data with lit-pref score",
                )
            table = pq.read_table(path, columns=["data", "row", self.measure])
        except (OSError, pa.ArrowException) as error:
            raise _refused(f"{path}: not a file of scores ({error}).", "write one with lit-pref score") from error
        return table.rename_columns(["data", "row", "score"])

    def _compare(self, pairs: str) -> None:
        """Say where the scores are of other tokens than are about to be trained on."""
        try:
            plan = json.loads((pq.read_schema(Path(self.scores).expanduser()).metadata or {})[b"lit_pref.plan"])
        except (OSError, pa.ArrowException, KeyError, ValueError):
            return  # a file of another hand, or none: the columns will tell
        if plan.get("pairs") != pairs:
            say(f"warning: {self.scores} was made with another tokenizer, template or data.max_length than this run's.")


def _refused(message: str, fix: str) -> DataError:
    return DataError(f"{message}\n  Fix: {fix}.\n  Nothing was trained.", ["scores-unusable"])
