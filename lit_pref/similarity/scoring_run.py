"""``lit-pref score`` as Lightning runs it: a module that holds the policy alone, over windows of pairs.

Knows Lightning and measures; which files there are, ``shards.py`` knows.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from ..batch import Pair
from ..console import counting
from ..data.cache import CachedPairs
from ..data.tokenized import content_of
from ..encoding import ending_tokens
from ..errors import ConfigError, PrefError
from ..models import CausalLM
from ..processes import Processes
from .measuring import Measuring
from .plan import Plan, make_plan, model_name
from .scored_data import ScoredData
from .shards import Shards
from .windows import windows


@dataclass(frozen=True)
class Request:
    """What a user asked for.

    Attributes:
        measures: names of measures.
        tokens_per_batch: most tokens of one model call, padding included.
        overwrite: whether a file of other scores may be replaced.
        checkpoint: file whose policy is measured.
    """

    measures: list[str]
    tokens_per_batch: int
    overwrite: bool
    checkpoint: Path | None


@dataclass
class Decision:
    """What the first process found, told to all.

    Attributes:
        plan: what decides the values.
        missing: windows yet to be measured; None where the finished file is there.
        failure: why nothing can be done.
    """

    plan: Plan = field(default_factory=dict)
    missing: list[int] | None = None
    failure: PrefError | None = None


class ScoringRun(pl.LightningModule):
    """Measures the windows that are missing; all processes measure each together, and the first one writes it.

    Args:
        source: the model that measures; built only where something is missing.
        request: what to measure.
        shards: where the lines go.
        stack: takes down the progress bar, whatever happens.
    """

    def __init__(self, source: CausalLM, request: Request, shards: Shards, stack: ExitStack) -> None:
        super().__init__()
        self.source = source
        self.request = request
        self.shards = shards
        self.stack = stack
        self.policy: nn.Module | None = None
        self.plan: Plan = {}
        self.missing: list[int] | None = None
        self._advance: Any = None

    def setup(self, stage: str) -> None:
        """Find out what is missing, before a model is loaded."""
        data = self._data
        self.measuring = Measuring(self.request.measures, ending_tokens(data.tokenizer), self.request.tokens_per_batch)
        self.windows = windows(len(self._pairs))
        decision = Decision()
        if self.trainer.is_global_zero:
            try:
                plan = self._plan()
                decision = Decision(plan, self.shards.open(plan, self.windows, self.request.overwrite))
            except PrefError as error:
                decision = Decision(failure=error)
        decision = self.trainer.strategy.broadcast(decision)
        self._raise(decision.failure)
        self.plan, self.missing = decision.plan, decision.missing

    def configure_model(self) -> None:
        """Build the policy inside whatever context the strategy shards construction with."""
        if self.policy is None and self.missing:
            self.policy = self.source.build().requires_grad_(False)
            if self.request.checkpoint is not None:
                load_policy(self.policy, self.request.checkpoint)

    def on_predict_start(self) -> None:
        if self.trainer.is_global_zero:
            assert self.missing is not None
            total = len(self._pairs)
            done = total - sum(len(self.windows[i]) for i in self.missing)
            self._advance = self.stack.enter_context(counting("Scoring pairs", total, "pairs", done))

    def predict_step(self, batch: int, batch_idx: int) -> int:
        """Measure one window; returns its number."""
        assert self.policy is not None
        window = self.windows[batch]
        pairs: list[Pair] = [self._pairs[i] for i in window]
        values = self.measuring(self.policy, pairs, Processes.of(self.trainer))
        failure = None
        if self.trainer.is_global_zero:
            try:
                self.shards.write(batch, lines_of(pairs, values, bool(self._pairs.ids)))
                self._advance(len(window))
            except PrefError as error:
                failure = error
        self._raise(self.trainer.strategy.broadcast(failure))
        return batch

    def finish(self) -> pa.Table | None:
        """The finished table, of which the file is written; None on processes other than the first."""
        if not self.trainer.is_global_zero:
            return None
        if self.missing is None:
            return pq.read_table(self.shards.out)
        constants = {"data": self.plan["data"], "model": model_name(self.plan)}
        return self.shards.finish(self.plan, len(self.windows), constants)

    @property
    def _data(self) -> ScoredData:
        data: ScoredData = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    @property
    def _pairs(self) -> CachedPairs:
        pairs = self._data.pairs
        assert pairs is not None, "the data are not set up"
        return pairs

    def _plan(self) -> Plan:
        return make_plan(
            self.source,
            self.request.checkpoint,
            data=content_of(self._pairs),
            pairs=self._pairs.folder.name,
            measures=list(self.request.measures),
            tokens_per_batch=self.request.tokens_per_batch,
            precision=str(self.trainer.precision),
            device=self.trainer.strategy.root_device.type,
        )

    def _raise(self, failure: PrefError | None) -> None:
        """Stop every process for what went wrong on the first, which alone says it."""
        if failure is not None:
            raise failure if self.trainer.is_global_zero else SystemExit(failure.exit_code)


def lines_of(pairs: list[Pair], values: dict[str, Tensor], named: bool) -> pa.Table:
    """The lines of some pairs: row, id where the data name their rows, lengths, measures."""
    columns: dict[str, Any] = {"row": pa.array([pair.row for pair in pairs], pa.int64())}
    if named:
        columns["id"] = pa.array([pair.id for pair in pairs], pa.string())
    columns["chosen_tokens"] = pa.array([len(pair.chosen) for pair in pairs], pa.int32())
    columns["rejected_tokens"] = pa.array([len(pair.rejected) for pair in pairs], pa.int32())
    # Not pa.array(numpy, from_pandas=True): "not a number" is a value here, and no gap.
    columns |= {name: pa.array(numbers.numpy(), pa.float64()) for name, numbers in values.items()}
    return pa.table(columns)


def load_policy(policy: nn.Module, checkpoint: Path) -> None:
    """Give a policy the weights of a checkpoint, and none of what else is in it.

    Raises:
        ConfigError: it is no checkpoint of a run, or of another model.
    """
    fix = "\n  Fix: give model.policy (with adapters) of the run that it is from."
    try:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    except Exception as error:  # torch raises whatever the bytes make it
        raise ConfigError(f"--ckpt_path {checkpoint}: this is no checkpoint of lit-pref fit ({error}).") from error
    own = {key.removeprefix("policy."): value for key, value in weights.items() if key.startswith("policy.")}
    try:
        policy.load_state_dict(own)
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise ConfigError(f"--ckpt_path {checkpoint} does not fit the model: {reasons[0][:200]}{fix}") from error
