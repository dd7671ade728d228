"""What an objective demands of the data, checked before a model is loaded. Knows pairs and flags, no formula."""

import numpy as np
import torch

from objectives import Objective

from ..errors import ConfigError
from .cache import CachedPairs
from .rows import DataError


def check_demands(objective: Objective, pairs: CachedPairs, path: str, global_batch_size: int) -> None:
    """Raise where the objective could not use some pair, or not the batches, of the training data.

    Args:
        objective: what will be trained.
        pairs: all pairs of the training source.
        path: how the user names that source.
        global_batch_size: pairs a batch over all processes.
    """
    name = type(objective).__name__
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


def _listed(pairs: CachedPairs, marked: np.ndarray) -> str:
    rows = pairs.rows[marked]
    more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:5]))}{more} ha{'ve' if len(rows) > 1 else 's'}"
