"""What an objective demands of the data, checked before a model is loaded. Knows pairs and flags, no formula."""

from typing import Any

import numpy as np
import torch

from objectives import Objective

from ..console import say
from ..errors import ConfigError
from .cache import CachedPairs
from .rows import DataError
from .splits import shared_prompts

OPTION = "data.tokens_per_batch"


def check_numbers(val_size: float, **at_least_one: int | None) -> None:
    """Refuse sizes that mean nothing."""
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            raise ValueError(f"data.{name} is {value}, but must be at least 1")
    if val_size < 0 or (val_size > 1 and val_size != int(val_size)):
        raise ValueError(f"data.val_size is {val_size}, but must be a share from 0 to 1 or a number of pairs")


def check_training(data: Any) -> None:
    """Say what is odd about data that can be trained on; refuse what cannot, or what the objective cannot use.

    Args:
        data: a PreferenceData that is set up.
    """
    if not data.train_positions:
        raise DataError("no pair is left to train on.\n  Fix: lower data.val_size.", ["no-rows-left"])
    shared = shared_prompts((data.train[p] for p in data.train_positions), [data.val[p] for p in data.val_positions])
    if shared:
        total = len(data.val_positions)
        say(f"warning: the prompts of {shared:,} of {total:,} validation pairs are also trained on.")
    if not data.val_positions:
        say("warning: no pair validates, so there will be no closing summary; set data.val_size or data.val_path.")
    if data.training.length < data.batch_size:
        say(f"warning: {len(data.kept)} training pairs do not fill a batch of {data.batch_size}: one step an epoch.")
    if data.trainer is not None:
        objective, global_batch_size = (
            data.trainer.lightning_module.objective,
            data.batch_size * data.trainer.world_size,
        )
        for pairs, source in ((data.train, data.source), (data.val, data.val_source or data.source)):
            check_demands(objective, pairs, source.path, global_batch_size, data.tokens_per_batch)


def check_demands(
    objective: Objective, pairs: CachedPairs, path: str, global_batch_size: int, tokens_per_batch: int | None = None
) -> None:
    """Raise where the objective could not use some pair, or not the batches, of the training data.

    Args:
        objective: what will be trained.
        pairs: all pairs of the training source.
        path: how the user names that source.
        global_batch_size: pairs a batch over all processes.
        tokens_per_batch: most tokens of a model call, where there is such a limit.
    """
    name = type(objective).__name__
    check_uncoupled(objective, tokens_per_batch)
    if objective.needs_mismatched and global_batch_size < 2:
        raise ConfigError(
            f"{name} compares with the responses of other pairs, and its estimate from a batch of 1 is noise.\n"
            "  Fix: raise data.batch_size to 2 or more."
        )
    if not objective.needs_rewards:
        return
    missing = np.isnan(pairs.rewards).any(-1)
    if missing.any():
        raise DataError(
            f"{path}: {name} needs annotated rewards, but {_listed(pairs, missing)} none.\n"
            "  Fix: name their columns as data.columns.chosen_reward and data.columns.rejected_reward.\n"
            "  Nothing was trained.",
            ["no-rewards"],
        )
    chosen, rejected = torch.from_numpy(np.array(pairs.rewards)).unbind(-1)
    unusable, rule = objective.unusable_rewards(chosen, rejected)
    if unusable.any():
        first = int(unusable.nonzero()[0])
        raise DataError(
            f"{path}: {rule}, but {_listed(pairs, unusable.numpy())} others; the first has a chosen_reward of "
            f"{chosen[first]:g} and a rejected_reward of {rejected[first]:g}.\n"
            "  Fix: remove these rows or swap their responses.\n  Nothing was trained.",
            ["unusable-rewards"],
        )


def check_uncoupled(objective: Objective, tokens_per_batch: int | None) -> None:
    """Raise where batches by tokens would change what the objective means."""
    if tokens_per_batch is not None and objective.couples_pairs:
        raise ConfigError(
            f"{type(objective).__name__}, as it is set, makes the loss of a pair depend on the other pairs of its "
            f"batch, and {OPTION} would change which these are.\n"
            f"  Fix: remove {OPTION}, or choose an objective that looks at each pair alone."
        )


def _listed(pairs: CachedPairs, marked: np.ndarray) -> str:
    rows = pairs.rows[marked]
    more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:5]))}{more} ha{'ve' if len(rows) > 1 else 's'}"
