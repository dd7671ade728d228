"""Which arguments of a guard belong to which of its actions. Knows no budget, no validation and no Trainer."""

from collections.abc import Mapping
from typing import Any

from lit_pref.pruning import LowestFraction

from .guard_acts import Act, Prune, RaiseSFTWeight, Stop
from .pair_choice import PairChoice

#: Action -> the arguments that are its own.
ARGUMENTS = {
    "stop": set[str](),
    "prune": {"rule", "measure", "tokens_per_batch"},
    "raise_sft_weight": {"step", "max_sft_weight"},
}


def make_act(action: str, given: Mapping[str, Any]) -> Act:
    """The act of this name, from the arguments that were given; ValueError where it has no use for one of them."""
    if action not in ARGUMENTS:
        raise ValueError(f"action is {action!r}, but must be 'stop', 'prune' or 'raise_sft_weight'")
    for name in given:
        if name not in ARGUMENTS[action]:
            (owner,) = (other for other, names in ARGUMENTS.items() if name in names)
            raise ValueError(
                f"{name} is an argument of DisplacementGuard's action {owner!r}, but the action is {action!r}.\n"
                f"  Fix: remove {name}, or set action to {owner}."
            )
    if action == "stop":
        return Stop()
    if action == "prune":
        rule, measure = given.get("rule", LowestFraction(0.5)), given.get("measure", "ln_ches")
        tokens = given.get("tokens_per_batch", 1024)
        return Prune(PairChoice(rule, measure, "guard_kept_rows.parquet", tokens_per_batch=tokens))
    return RaiseSFTWeight(given.get("step", 2.0), given.get("max_sft_weight", 10.0))
