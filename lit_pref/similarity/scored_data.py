"""What ``lit-pref score`` reads: all pairs of one source, by window. Knows nothing about models or measures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from ..console import say
from ..data.cache import CachedPairs
from ..data.datamodule import PreferenceData
from ..data.tokenized import tokenized
from ..models import CausalLM, load_tokenizer


class WindowLoader:
    """Numbers of windows, one at a time. Not a DataLoader, whose sampler Lightning would deal out to processes."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)


class ScoredData(pl.LightningDataModule):
    """All pairs of ``data.path``, in the order of the data; other sources are not read.

    Args:
        data: says what the pairs are.
        source: the model, whose tokenizer is used where the data name none.
        listing: file to list the rows in that are left out, where there are any.
    """

    allow_zero_length_dataloader_with_multiple_devices = True  # all windows may be there

    def __init__(self, data: PreferenceData, source: CausalLM, listing: Path) -> None:
        super().__init__()
        self.data = data
        path = data.tokenizer_path
        self.tokenizer = source.tokenizer() if path is None else load_tokenizer(path)
        self.listing = listing
        self.pairs: CachedPairs | None = None

    def prepare_data(self) -> None:
        """Read, judge and tokenise the source once, on one process."""
        try:
            pairs = tokenized(self.data.source, self.tokenizer, self.data.cache_dir, self.listing)
            say(f"{self.data.source.path}: {pairs.meta['summary']}")
        finally:
            if self.listing.exists() and not self.listing.stat().st_size:
                self.listing.unlink()

    def setup(self, stage: str) -> None:
        self.pairs = tokenized(self.data.source, self.tokenizer, self.data.cache_dir)

    def predict_dataloader(self) -> WindowLoader:
        assert self.trainer is not None
        run: Any = self.trainer.lightning_module
        return WindowLoader(run.missing or [])
