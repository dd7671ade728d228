"""The LightningDataModule: which pairs are trained on, validated on, in which order. Knows nothing about models."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from transformers import PreTrainedTokenizerBase

from ..batch import Pair
from ..console import say
from ..errors import ConfigError
from ..models import load_tokenizer
from ..order import PairBatches
from ..rendering import Template
from .cache import CachedPairs
from .columns import Columns
from .demands import check_demands
from .kept_rows import other_data, read_kept_rows
from .loading import ResumableLoader, make_loader
from .rows import DataError
from .splits import shared_prompts, split_positions
from .tokenized import BAD_ROWS, PairSource, content_of, tokenized


class PreferenceData(pl.LightningDataModule):
    """Preference pairs from files, a folder, the hub or the tiny world.

    Args:
        path: JSONL, JSON, CSV or Parquet (each also .gz), a folder, a hub name, or a tiny-world data set such as
            "world:agreement/no-over-never".
        val_path: where validation pairs come from; without it they are split off ``path``.
        test_path: where the pairs of ``lit-pref test`` come from.
        split: split of ``path`` that is trained on, for folders and hub data sets.
        val_split: split of ``val_path``.
        test_split: split of ``test_path``.
        val_size: without ``val_path``: share (below 1) or number of pairs that are split off for validation.
        split_seed: seed of that split, apart from ``seed``, so that runs of all seeds validate on the same pairs.
        columns: names of the columns, where they are not prompt, chosen, rejected.
        template: how text becomes a prompt and a response.
        tokenizer: folder or hub name; by default the tokenizer of the policy.
        max_length: most tokens of prompt and response together; prompts are never cut, responses at their end.
        max_chars: most characters of one field; longer rows are refused.
        control_characters: "refuse" rows that hold control characters (NUL, escape, ...), or "strip" them.
        on_bad_row: "error" stops before training where rows are refused; "drop" leaves such rows out. Either way
            they are listed in bad_rows.jsonl in the run's folder.
        batch_size: pairs a batch and process.
        val_batch_size: the same for validation; by default ``batch_size``.
        seed: seed of the order of training pairs; by default that of ``seed_everything``.
        num_workers: processes that prepare batches.
        kept_rows: JSON file {"data": fingerprint, "rows": [...]} of the rows of ``path`` to train on.
        cache_dir: folder of tokenised pairs; by default below $LIT_PREF_CACHE or ~/.cache/lit-pref.
    """

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        split: str = "train",
        val_split: str = "validation",
        test_split: str = "test",
        val_size: float = 0.1,
        split_seed: int = 0,
        columns: Columns = Columns(),  # noqa: B008, frozen
        template: Template = Template(),  # noqa: B008, frozen
        tokenizer: str | None = None,
        max_length: int = 1024,
        max_chars: int = 200_000,
        control_characters: Literal["refuse", "strip"] = "refuse",
        on_bad_row: Literal["error", "drop"] = "error",
        batch_size: int = 8,
        val_batch_size: int | None = None,
        seed: int | None = None,
        num_workers: int = 0,
        kept_rows: str | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in {
            "batch_size": batch_size,
            "val_batch_size": val_batch_size,
            "max_length": max_length,
        }.items():
            if value is not None and value < 1:
                raise ValueError(f"data.{name} is {value}, but must be at least 1")
        if val_size < 0 or (val_size > 1 and val_size != int(val_size)):
            raise ValueError(f"data.val_size is {val_size}, but must be a share from 0 to 1 or a number of pairs")
        options: dict[str, Any] = {
            "columns": columns, "template": template, "max_length": max_length,
            "max_chars": max_chars, "control_characters": control_characters, "on_bad_row": on_bad_row,
        }  # fmt: skip
        self.source = PairSource(path, split, **options)
        self.val_source = PairSource(val_path, val_split, **options) if val_path else None
        self.test_source = PairSource(test_path, test_split, **options) if test_path else None
        self.val_size = val_size
        self.split_seed = split_seed
        self.tokenizer_path = tokenizer
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size or batch_size
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.num_workers = num_workers
        self.kept_rows = kept_rows
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else None
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self.train: CachedPairs | None = None
        self.val: CachedPairs | None = None
        self.test: CachedPairs | None = None
        self.train_positions: list[int] = []
        self.val_positions: list[int] = []
        #: Positions of ``train`` that are trained on; ``keep`` sets it, checkpoints carry it.
        self.kept: list[int] = []

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that is set, else the policy's."""
        if self._tokenizer is None:
            if self.tokenizer_path is not None:
                self._tokenizer = load_tokenizer(self.tokenizer_path)
            else:
                self._tokenizer = self._module.source.tokenizer()
        return self._tokenizer

    def prepare_data(self) -> None:
        """Read, judge and tokenise every source once, on one process."""
        for source in self._sources():
            pairs = tokenized(source, self.tokenizer, self.cache_dir, self._listing(source))
            say(f"{source.path}: {pairs.meta['summary']}")

    def setup(self, stage: str) -> None:
        """Open what ``prepare_data`` made, and decide which pairs train and which validate."""
        self.train, self.val, self.test = (
            None if source is None else tokenized(source, self.tokenizer, self.cache_dir)
            for source in (self.source, self.val_source, self.test_source)
        )
        assert self.train is not None
        positions = range(len(self.train))
        if self.val is None:
            self.val = self.train
            self.train_positions, self.val_positions = split_positions(len(self.train), self.val_size, self.split_seed)
        else:
            self.train_positions, self.val_positions = list(positions), list(range(len(self.val)))
        self.kept = self.train_positions
        if self.kept_rows is not None:
            self.keep(read_kept_rows(Path(self.kept_rows), content_of(self.train)))
        if stage == "fit":
            self._check()

    def keep(self, rows: Sequence[int]) -> None:
        """Train on these rows of the source from the next epoch on; validation pairs stay out.

        This is the one way back from callbacks to data. Every process must keep the same rows, and the Trainer must
        have ``reload_dataloaders_every_n_epochs=1``, as it has on the command line.
        """
        assert self.train is not None
        trainer: Any = self.trainer
        if trainer is not None and trainer.training and trainer.reload_dataloaders_every_n_epochs != 1:
            raise ConfigError("rows kept between epochs need trainer.reload_dataloaders_every_n_epochs to be 1")
        wanted = set(rows)
        kept = [p for p in self.train_positions if int(self.train.rows[p]) in wanted]
        if not kept:
            raise DataError("none of the rows to keep is a training row, so nothing can be trained", ["no-rows-left"])
        self.kept = kept

    def train_dataloader(self) -> ResumableLoader:
        assert self.train is not None
        return self._loader(self.train, self.kept, self.batch_size, self.seed)

    def val_dataloader(self) -> ResumableLoader | list[Any]:
        assert self.val is not None
        positions = self.val_positions
        return self._loader(self.val, positions, self.val_batch_size) if positions else []

    def test_dataloader(self) -> ResumableLoader:
        if self.test is None:
            raise ConfigError("lit-pref test needs data.test_path.\n  Fix: set it, or use lit-pref validate.")
        return self._loader(self.test, range(len(self.test)), self.val_batch_size)

    def predict_dataloader(self) -> ResumableLoader:
        """Every pair of ``path``, in order."""
        assert self.train is not None
        return self._loader(self.train, range(len(self.train)), self.val_batch_size)

    def val_pair(self, row: int) -> Pair:
        """The validation pair with this row number."""
        assert self.val is not None
        return self.val[int((self.val.rows == row).nonzero()[0][0])]

    def state_dict(self) -> dict[str, Any]:
        """The rows that are kept, with the fingerprint of their data; nothing where all are."""
        if self.train is None or self.kept == self.train_positions:
            return {}
        return {"data": content_of(self.train), "rows": self.train.rows[self.kept].tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the rows that were kept; called after ``setup``. Other data are refused where they would be trained."""
        assert self.train is not None
        if state_dict and state_dict["data"] == content_of(self.train):
            self.keep(state_dict["rows"])
        elif state_dict and self.trainer is not None and self.trainer.state.fn == "fit":
            raise other_data("the checkpoint", state_dict["data"], content_of(self.train))

    @property
    def _module(self) -> Any:
        """The PreferenceModule that is trained on these data."""
        assert self.trainer is not None, "data.tokenizer is needed where no Trainer runs"
        return self.trainer.lightning_module

    @property
    def _world_size(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size

    def _sources(self) -> list[PairSource]:
        return [s for s in (self.source, self.val_source, self.test_source) if s is not None]

    def _loader(
        self, pairs: CachedPairs, positions: Sequence[int], batch_size: int, shuffle_seed: int | None = None
    ) -> ResumableLoader:
        rank = 0 if self.trainer is None else self.trainer.global_rank
        order = PairBatches(positions, batch_size, shuffle_seed, rank, self._world_size)
        mismatched = self.trainer is not None and self._module.objective.needs_mismatched
        return make_loader(pairs, order, self.num_workers, mismatched, self.source.max_length)

    def _listing(self, source: PairSource) -> Path | None:
        """Where the run's folder lists the rows of a source that are left out, by what the source is for."""
        if self.trainer is None:
            return None
        prefix = "" if source is self.source else "validation_" if source is self.val_source else "test_"
        return Path(self.trainer.default_root_dir) / f"{prefix}{BAD_ROWS}"

    def _check(self) -> None:
        """Say what is odd about data that can be trained on; refuse what the objective cannot use."""
        assert self.train is not None
        assert self.val is not None
        if not self.train_positions:
            raise DataError("no pair is left to train on.\n  Fix: lower data.val_size.", ["no-rows-left"])
        shared = shared_prompts(
            (self.train[p] for p in self.train_positions), [self.val[p] for p in self.val_positions]
        )
        if shared:
            total = len(self.val_positions)
            say(f"warning: the prompts of {shared:,} of {total:,} validation pairs are also trained on.")
        if not self.val_positions:
            say("warning: no pair validates, so there will be no closing summary; set data.val_size or data.val_path.")
        if len(self.kept) < self.batch_size:
            say(
                f"warning: {len(self.kept)} training pairs do not fill a batch of {self.batch_size}: one step an epoch."
            )
        if self.trainer is not None:
            for pairs, source in ((self.train, self.source), (self.val, self.val_source or self.source)):
                check_demands(self._module.objective, pairs, source.path, self.batch_size * self._world_size)
