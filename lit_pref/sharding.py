"""Weights of which every process holds a part (ZeRO-3, FSDP). Knows strategies; nothing of what models are used for."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from torch import nn

from .errors import ConfigError

#: Strategies of Lightning that shard the weights themselves, beside DeepSpeed's stage 3.
SHARDING = ("FSDPStrategy", "ModelParallelStrategy")
#: DeepSpeed lets go of a weight after a call unless a module is in the middle of using it; no module has this number.
HELD = -1


def sharded(trainer: pl.Trainer) -> bool:
    """Whether the strategy shards weights, so that a call of the model waits for all processes."""
    return _stage_3(trainer) or type(trainer.strategy).__name__ in SHARDING


def unasked(trainer: pl.Trainer) -> None:
    """Give DeepSpeed a batch size, so that it does not build the training loader to find one.

    It wants it for its count of tokens a second alone, and would ask before there are models: choosers and watchers of
    the data, which ask the policy, would meet none. Call this before models are built.
    """
    config = getattr(trainer.strategy, "config", None)
    if isinstance(config, dict) and "zero_optimization" in config:
        config.setdefault("train_micro_batch_size_per_gpu", 1)


def check_whole_steps(trainer: pl.Trainer) -> None:
    """ConfigError where an epoch would end within a step of a strategy that counts batches by itself."""
    batches, accumulate = int(trainer.num_training_batches), trainer.accumulate_grad_batches
    whole = batches - batches % accumulate
    if trainer.strategy.handles_gradient_accumulation and whole < batches:
        raise ConfigError(
            f"trainer.accumulate_grad_batches is {accumulate} and an epoch has {batches} batches, but DeepSpeed takes "
            "no step at its end: the last batches would be mixed into the next epoch.\n"
            f"  Fix: a number that divides {batches}, or trainer.limit_train_batches {whole}."
        )


@contextmanager
def loading(trainer: pl.Trainer | None, cut: bool = True) -> Iterator[None]:
    """While it lasts, transformers builds and reads models under ZeRO-3 as it should; elsewhere nothing happens.

    Lightning builds inside DeepSpeed's ``zero.Init``, where every weight is cut as soon as it exists: transformers then
    finds empty ones, refuses files, and draws wrong random weights without a word; so do fresh adapters. Hence that
    context is left for a while, and transformers is told of the stage and cuts by itself, weight by weight. What is
    left whole is cut when training is set up. Afterwards transformers forgets the stage: judges are built on each
    process for itself.

    Args:
        trainer: whose strategy it is; None where there is none.
        cut: False leaves all weights whole for now: random ones are then those that one process draws.
    """
    if trainer is None or not _stage_3(trainer):
        yield
        return
    from deepspeed.runtime.zero import partition_parameters
    from transformers.integrations import HfDeepSpeedConfig

    outer = partition_parameters.top_level_context
    stage = HfDeepSpeedConfig(trainer.strategy.config) if cut else None  # type: ignore[attr-defined]
    if outer is not None:
        outer.__exit__(None, None, None)
    try:
        yield
    finally:
        del stage  # transformers knows of it for as long as somebody holds it
        if outer is not None:
            outer.__enter__()


@contextmanager
def whole(model: nn.Module, wanted: bool = True) -> Iterator[bool]:
    """While it lasts, every process holds all weights of a model that ZeRO-3 shards, and calls of it wait for nobody.

    All processes enter and leave it together. Weights may be read, not changed.

    Args:
        model: any model.
        wanted: where this is False nothing is held.

    Returns:
        Whether weights are held that were sharded; for FSDP they never are.
    """
    parameters = _parts(model.parameters()) if wanted else []
    if not parameters:
        yield False
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters(parameters):
        for parameter in parameters:
            parameter.ds_active_sub_modules.add(HELD)
        try:
            yield True
        finally:
            for parameter in parameters:
                parameter.ds_active_sub_modules.discard(HELD)


@contextmanager
def writable(*parameters: nn.Parameter) -> Iterator[None]:
    """While it lasts, these parameters are whole and may be changed alike by all processes, also under ZeRO-3."""
    parts = _parts(parameters)
    if not parts:
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters(parts, modifier_rank=0):
        yield


def _parts(parameters: Iterable[nn.Parameter]) -> list[Any]:
    """Those of which ZeRO-3 keeps parts."""
    return [parameter for parameter in parameters if hasattr(parameter, "ds_id")]


def _stage_3(trainer: pl.Trainer) -> bool:
    return bool(getattr(trainer.strategy, "zero_stage_3", False))
