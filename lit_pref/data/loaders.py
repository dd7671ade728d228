"""The loaders of a PreferenceData: calls of a number of pairs or, where it is asked for, of a number of tokens."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from lightning.pytorch.trainer.connectors.data_connector import _parse_num_batches
from lightning.pytorch.trainer.states import RunningStage

from ..console import say
from ..errors import ConfigError
from ..order import PairBatches
from ..step_settings import StepSettings, refuse_other_counts
from ..token_batches import NeighbourBatches, TokenBatches
from .cache import CachedPairs
from .demands import OPTION, check_uncoupled
from .loading import ResumableLoader, make_loader

STAGES = {"val": RunningStage.VALIDATING, "test": RunningStage.TESTING, "predict": RunningStage.PREDICTING}


class Loaders:
    """Builds the loaders of some data. A "batch" of the Trainer's settings is one of ``batch_size`` pairs throughout.

    Args:
        data: a PreferenceData.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        #: What the user asked of the Trainer; None where that is what the Trainer still says.
        self.asked: StepSettings | None = None
        self._said: set[str] = set()

    def training(self) -> ResumableLoader:
        """One epoch's pairs: that which the Trainer is about to train."""
        data = self.data
        positions, length = data.kept, data.training.length
        if data.tokens_per_batch is None:
            order = PairBatches(positions, data.batch_size, data.seed, self._rank, data._world_size, length)
        else:
            self._say_long(data.train, data.train_positions, "training")
            order = self._token_batches(positions, length)
        return self._loader(data.train, order)

    def measuring(
        self, pairs: CachedPairs, positions: Sequence[int], stage: Literal["val", "test", "predict"]
    ) -> ResumableLoader:
        """Pairs in the order of the data, for a loop without steps."""
        data = self.data
        if data.tokens_per_batch is None:
            order = PairBatches(positions, data.val_batch_size, None, self._rank, data._world_size)
            return self._loader(pairs, order)
        if data.trainer is not None:
            check_uncoupled(data._module.objective, data.tokens_per_batch)
            positions = self._limited(positions, stage)
        self._say_long(pairs, positions, {"val": "validation", "test": "test"}.get(stage, "scored"))
        return self._loader(
            pairs,
            NeighbourBatches(positions, _tokens(pairs).tolist(), data.tokens_per_batch, self._rank, data._world_size),
        )

    def close(self) -> None:
        """Leave the Trainer as it was found."""
        if self.asked is not None:
            self.asked.restore(self.data.trainer)
            self.asked = None

    @property
    def _rank(self) -> int:
        return 0 if self.data.trainer is None else self.data.trainer.global_rank

    def _loader(self, pairs: CachedPairs, order: PairBatches) -> ResumableLoader:
        data = self.data
        mismatched = data.trainer is not None and data._module.objective.needs_mismatched
        return make_loader(pairs, order, data.num_workers, mismatched, data.source.max_length)

    def _limited(self, positions: Sequence[int], stage: str) -> Sequence[int]:
        """The pairs that the Trainer's limit lets through; it then counts calls, which all count."""
        limit = getattr(self._remembered(), f"limit_{stage}_batches")
        if not limit:
            return positions  # the Trainer itself lets nothing through
        setattr(self.data.trainer, f"limit_{stage}_batches", 1.0)
        batch = self.data.val_batch_size * self.data._world_size
        return positions[: int(_parse_num_batches(STAGES[stage], -(-len(positions) // batch), limit)) * batch]

    def _remembered(self) -> StepSettings:
        if self.asked is None:
            self.asked = StepSettings.of(self.data.trainer)
        return self.asked

    def _token_batches(self, positions: Sequence[int], length: int) -> TokenBatches:
        """Calls of the steps that the Trainer was asked to make; it is told how many make one."""
        data, trainer = self.data, self.data.trainer
        tokens, most, world_size = _tokens(data.train).tolist(), data.tokens_per_batch, data._world_size
        if trainer is None:
            return TokenBatches(positions, tokens, most, data.batch_size, data.seed, length=length)
        refuse_other_counts(trainer, OPTION)
        asked, batch = self._remembered(), data.batch_size * world_size
        batches = _parse_num_batches(RunningStage.TRAINING, -(-length // batch), asked.limit_train_batches)
        accumulate = asked.accumulate_grad_batches
        order = TokenBatches(
            positions, tokens, most, data.batch_size * accumulate, data.seed, self._rank, world_size,
            min(length, int(batches) * batch), trainer.fit_loop.epoch_progress.current.processed,
        )  # fmt: skip
        if trainer.strategy.handles_gradient_accumulation and max(order.calls, accumulate) > 1:
            raise ConfigError(
                f"{OPTION} is {most:,}, with which a step takes {order.calls} model calls a process where "
                f"trainer.accumulate_grad_batches is {accumulate}, but DeepSpeed counts the calls of a step itself.\n"
                f"  Fix: settings with which both are 1, by a higher {OPTION} or a lower data.batch_size, or another "
                "trainer.strategy."
            )
        asked.set_calls(trainer, order.calls, int(batches))
        return order

    def _say_long(self, pairs: CachedPairs, positions: Sequence[int], name: str) -> None:
        """Say, once, how many pairs are longer than a call may be."""
        tokens, most = _tokens(pairs)[list(positions)], self.data.tokens_per_batch
        count = int((tokens > most).sum())
        if count and name not in self._said:
            self._said.add(name)
            say(
                f"{OPTION} is {most:,}, but {count:,} of {len(tokens):,} {name} pairs {'is' if count == 1 else 'are'} "
                f"longer, up to {tokens.max():,} tokens; each of them has a model call of its own."
            )


def _tokens(pairs: CachedPairs) -> np.ndarray:
    """(n,) tokens that a call reads of each pair: prompt, once, and both responses."""
    return np.asarray(pairs.bounds[:, 3] - pairs.bounds[:, 0])
