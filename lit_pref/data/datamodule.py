"""The LightningDataModule: which pairs are trained on, validated on, in which order. Knows nothing about models."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..batch import Pair
from ..console import say
from ..errors import ConfigError
from ..models import load_tokenizer
from ..pruning import Candidates
from ..rendering import Template
from .cache import CachedPairs
from .columns import Columns
from .demands import check_numbers, check_training
from .kept_rows import read_kept_rows
from .loaders import Loaders
from .loading import ResumableLoader
from .selection import Selection
from .splits import split_positions
from .tokenized import BAD_ROWS, PairSource, content_of, tokenized
from .training_rows import TrainingRows


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
        tokens_per_batch: most tokens of one model call, a pair's prompt counted once, so that long pairs fit into
            memory and short ones fill it; a longer pair has a call of its own. Optimizer steps stay what they are, the
            ``batch_size * trainer.accumulate_grad_batches`` same pairs a process: only the calls of a step are dealt
            out by length. Batches in settings of the Trainer (limits, intervals) are still those of pairs.
        seed: seed of the order of training pairs; by default that of ``seed_everything``.
        num_workers: processes that prepare batches.
        kept_rows: JSON file {"data": fingerprint, "rows": [...]} of the rows of ``path`` to train on.
        selection: train on the pairs of ``path`` that a rule chooses by a file of scores.
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
        tokens_per_batch: int | None = None,
        seed: int | None = None,
        num_workers: int = 0,
        kept_rows: str | None = None,
        selection: Selection | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        check_numbers(
            val_size, batch_size=batch_size, val_batch_size=val_batch_size, max_length=max_length,
            tokens_per_batch=tokens_per_batch,
        )  # fmt: skip
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
        self.tokens_per_batch = tokens_per_batch
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.num_workers = num_workers
        self.kept_rows = kept_rows
        self.selection = selection
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else None
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self.train: CachedPairs | None = None
        self.val: CachedPairs | None = None
        self.test: CachedPairs | None = None
        self.val_positions: list[int] = []
        self.training: TrainingRows | None = None
        self.loaders = Loaders(self)
        #: Called with the number of each epoch before its loader is built, on every process: first those that may
        #: ``keep`` other rows, then those that look on. A restart calls them for the epoch that it goes on with too.
        self.choosers: list[Callable[[int], None]] = []
        self.watchers: list[Callable[[int], None]] = []

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
        self.choosers, self.watchers = [], []  # callbacks add theirs after this
        self.train, self.val, self.test = (
            None if source is None else tokenized(source, self.tokenizer, self.cache_dir)
            for source in (self.source, self.val_source, self.test_source)
        )
        assert self.train is not None
        positions = list(range(len(self.train)))
        if self.val is None:
            self.val = self.train
            positions, self.val_positions = split_positions(len(self.train), self.val_size, self.split_seed)
        else:
            self.val_positions = list(range(len(self.val)))
        self.training = TrainingRows(self.train, positions)
        if self.kept_rows is not None:
            self.keep(read_kept_rows(Path(self.kept_rows), content_of(self.train)))
        if self.selection is not None:
            self.selection.apply(self)
        self.training.configured()
        if stage == "fit":
            check_training(self)

    def teardown(self, stage: str) -> None:
        self.loaders.close()

    @property
    def train_positions(self) -> list[int]:
        """Positions of ``train`` that may be trained on."""
        return [] if self.training is None else self.training.positions

    @property
    def kept(self) -> list[int]:
        """Positions of ``train`` that are trained on."""
        return [] if self.training is None else self.training.kept

    def keep(self, rows: Sequence[int], match_steps: bool = False) -> None:
        """Train on these rows of the source from the next epoch on; validation pairs stay out.

        This is the one way back from callbacks to data. Every process must keep the same rows, and the Trainer must
        have ``reload_dataloaders_every_n_epochs=1``, as it has on the command line.

        Args:
            rows: row numbers.
            match_steps: repeat them, so that an epoch takes as many optimizer steps as one of all pairs.
        """
        assert self.training is not None
        trainer: Any = self.trainer
        if trainer is not None and trainer.training and trainer.reload_dataloaders_every_n_epochs != 1:
            raise ConfigError("rows kept between epochs need trainer.reload_dataloaders_every_n_epochs to be 1")
        self.training.keep(rows, match_steps)

    def candidates(self, positions: Sequence[int], scores: Tensor, epoch: int) -> Candidates:
        """What a pruning rule is told of the training pairs at some positions, (n,) scores beside them."""
        assert self.training is not None
        return self.training.candidates(positions, scores, epoch, self.seed, self.source.columns.labels)

    def train_dataloader(self) -> ResumableLoader:
        assert self.train is not None
        assert self.training is not None
        for act in (*self.choosers, *self.watchers):
            assert self.trainer is not None
            # Not the Trainer's current_epoch, which lags behind where training restarts from the end of an epoch.
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            act(progress.processed)
        return self.loaders.training()

    @property
    def batches_of_all(self) -> int:
        """Batches of an epoch that trains on every pair that may be trained on."""
        return -(-len(self.train_positions) // (self.batch_size * self._world_size))

    def val_dataloader(self) -> ResumableLoader | list[Any]:
        assert self.val is not None
        positions = self.val_positions
        return self.loaders.measuring(self.val, positions, "val") if positions else []

    def test_dataloader(self) -> ResumableLoader:
        if self.test is None:
            raise ConfigError("lit-pref test needs data.test_path.\n  Fix: set it, or use lit-pref validate.")
        return self.loaders.measuring(self.test, range(len(self.test)), "test")

    def predict_dataloader(self) -> ResumableLoader:
        """Every pair of ``path``, in order."""
        assert self.train is not None
        return self.loaders.measuring(self.train, range(len(self.train)), "predict")

    def val_pair(self, row: int) -> Pair:
        """The validation pair with this row number."""
        assert self.val is not None
        return self.val[int((self.val.rows == row).nonzero()[0][0])]

    def state_dict(self) -> dict[str, Any]:
        """The rows that are kept, with the fingerprint of their data; nothing where all are."""
        return {} if self.training is None else self.training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the rows that were kept; called after ``setup``. Other data are refused where they would be trained."""
        assert self.training is not None
        self.training.load_state_dict(state_dict, self.trainer is not None and self.trainer.state.fn == "fit")

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

    def _listing(self, source: PairSource) -> Path | None:
        """Where the run's folder lists the rows of a source that are left out, by what the source is for."""
        if self.trainer is None:
            return None
        prefix = "" if source is self.source else "validation_" if source is self.val_source else "test_"
        return Path(self.trainer.default_root_dir) / f"{prefix}{BAD_ROWS}"
