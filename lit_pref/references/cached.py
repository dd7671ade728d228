"""A reference whose log-probabilities are computed once and kept on disk: no second model in memory while training."""

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from objectives import PairScores, SequenceScores

from ..batch import PreferenceBatch
from ..console import counting
from ..data.cache import CachedPairs, lock
from ..data.loading import make_loader
from ..errors import ConfigError
from ..fast_path import fast_path
from ..models import CausalLM
from ..order import PairBatches
from ..paths import cache_root
from ..scoring import SUMS, Wanted, counted, score
from ..token_batches import NeighbourBatches
from .base import Reference

#: Of a call without gradients, where pairs are packed; few models are so small that more would be faster.
TOKENS_PER_CALL = 8192


class CachedModel(Reference):
    """Scores every pair of the data with a frozen model before training, once, and then reads the sums.

    Runs that start at once compute it once: the others wait. The file is named by the fingerprints of the reference's
    weights and of the tokenised pairs (source bytes, tokenizer, template, lengths) and by the precision: a change of
    any of them computes anew, while kept rows, seeds, epochs, restarts and objectives share it. It holds sums of the
    data's own pairs: objectives that read single tokens or mismatched pairs of the reference are refused.

    Args:
        model: where the reference comes from; by default the policy's own source.
        cache_dir: folder of the files; by default ``references`` below $LIT_PREF_CACHE or ~/.cache/lit-pref.
    """

    def __init__(self, model: CausalLM | None = None, cache_dir: str | None = None) -> None:
        super().__init__()
        self.source = model
        self.folder = Path(cache_dir).expanduser() if cache_dir else cache_root() / "references"
        self._tables: dict[Path, np.ndarray] = {}
        self._trainer: pl.Trainer | None = None

    def build(self, policy: CausalLM) -> None:
        self.source = self.origin(policy)

    def origin(self, policy: CausalLM) -> CausalLM:
        return self.source or policy

    def prepare(self, trainer: pl.Trainer) -> None:
        """Read the tables of all sources, or compute those that are not there."""
        self._trainer = trainer
        objective: Any = trainer.lightning_module.objective
        if objective.needs_mismatched or (objective.needs_tokens and objective.needs_reference):
            raise ConfigError(
                f"{type(objective).__name__} reads more of the reference than sums over the data's own pairs, but "
                "model.reference is CachedModel.\n  Fix: use lit_pref.references.FrozenModel."
            )
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        for pairs in (data.train, data.val, data.test):
            if pairs is not None and pairs.folder not in self._tables:
                self._tables[pairs.folder] = self._table(trainer, pairs, data.val_batch_size)

    def score(self, policy: nn.Module, batch: PreferenceBatch, wanted: Wanted = SUMS) -> PairScores:
        assert self._trainer is not None, "prepare was not called"
        data: Any = self._trainer.datamodule  # type: ignore[attr-defined]
        stage = self._trainer
        pairs = data.test if stage.testing else data.val if stage.validating else data.train
        logps = torch.from_numpy(self._tables[pairs.folder][_places(pairs, batch)]).to(batch.rows.device)  # (B, 2)
        sides = counted(batch)
        chosen, rejected = (
            SequenceScores(
                logps[:, i], batch.lengths[side], rewards=None if batch.rewards is None else batch.rewards[i]
            )
            for i, side in enumerate(sides)
        )
        return PairScores(chosen, rejected)

    def _table(self, trainer: pl.Trainer, pairs: CachedPairs, batch_size: int) -> np.ndarray:
        """(n, 2) float32: log-probabilities of the chosen and of the rejected response of each pair, by position."""
        assert self.source is not None
        parts = {"model": self.source.fingerprint(), "pairs": pairs.folder.name, "precision": str(trainer.precision)}
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
        path = self.folder / f"{key}.npy"
        # Runs that start at once wait here for the first of them, and then read what it computed.
        with lock(path) if trainer.is_global_zero else nullcontext():
            # Every process must agree on what is there before any of them starts to compute.
            if trainer.strategy.broadcast(_readable(path, len(pairs))):
                return np.load(path)
            table = self._compute(trainer, pairs, batch_size)
            if trainer.is_global_zero:
                part = path.with_suffix(".part.npy")
                np.save(part, table)
                part.replace(path)
        trainer.strategy.barrier()
        return table

    @torch.no_grad()
    def _compute(self, trainer: pl.Trainer, pairs: CachedPairs, batch_size: int) -> np.ndarray:
        assert self.source is not None
        device = trainer.strategy.root_device
        model: nn.Module = self.source.build_frozen()
        model.to(device)
        order = self._order(trainer, pairs, batch_size, fast_path(model, device).packs)
        table = torch.zeros(len(pairs), 2, device=device)
        with counting("Scoring pairs with the reference", len(pairs)) as advance:
            for batch, count in zip(make_loader(pairs, order, 0), order.pair_counts, strict=True):
                batch = trainer.strategy.batch_to_device(batch, device)
                with trainer.precision_plugin.val_step_context():
                    scores = score(model, batch)
                places = torch.from_numpy(_places(pairs, batch)).to(device)
                table[places] = _sums(scores)
                advance(count)
        total: Tensor = trainer.strategy.reduce(table, reduce_op="sum")
        return total.cpu().numpy()

    @staticmethod
    def _order(trainer: pl.Trainer, pairs: CachedPairs, batch_size: int, packs: bool) -> PairBatches:
        """Calls of many tokens where nothing is padding; else of neighbours in length, so that little is."""
        tokens = pairs.bounds[:, 3] - pairs.bounds[:, 0]
        share = {"rank": trainer.global_rank, "world_size": trainer.world_size}
        if packs:
            return NeighbourBatches(range(len(pairs)), tokens.tolist(), TOKENS_PER_CALL, **share)
        return PairBatches(np.argsort(tokens, kind="stable").tolist(), batch_size, None, **share)


def _sums(scores: PairScores) -> Tensor:
    return torch.stack([scores.chosen.logps, scores.rejected.logps], -1)  # (B, 2)


def _places(pairs: CachedPairs, batch: PreferenceBatch) -> np.ndarray:
    """(B,) positions of the batch's rows in their source; rows are in ascending order there."""
    return np.searchsorted(pairs.rows, batch.rows.cpu().numpy())


def _readable(path: Path, count: int) -> bool:
    """Whether the file holds a whole table; one that does not is computed again."""
    try:
        return bool(np.load(path, mmap_mode="r").shape == (count, 2))
    except (OSError, ValueError, EOFError):
        return False
