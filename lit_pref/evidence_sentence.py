"""What a run showed about measures, in one sentence that claims no more than intervals allow. Imports no torch."""

from collections.abc import Mapping

import numpy as np

from .evidence import LEVEL, Evidence


def level_for(measures: int) -> float:
    """Coverage of each interval where claims about several measures shall all hold with 95% together (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(measures, 1)


def sentence(found: Mapping[str, Evidence]) -> str:
    """What a whole run showed about all measures.

    Args:
        found: measure -> its evidence over the run, with intervals of ``level_for`` their number.
    """
    head = f"Over the run, of {', '.join(found)}:" if len(found) > 1 else "Over the run:"
    judged = {name: e for name, e in found.items() if not np.isnan(e.low)}
    if not judged:
        return f"{head} no measure can be judged: too few pairs, or values that are constant or not finite."
    order = sorted(judged, key=lambda name: -judged[name].spearman)
    told = [name for name in order if judged[name].predicts]
    opposite = [name for name in reversed(order) if judged[name].opposes]
    claims = []
    if told:
        claims.append(f"{_listed(told)} predicted in part which chosen responses fell ({_numbers(told[0], found)})")
    if opposite:
        finds = "it finds" if len(opposite) == 1 else "they find"
        text = f"{_listed(opposite)} predicted the opposite: pairs that {finds} more alike fell less"
        claims.append(f"{text} ({_numbers(opposite[0], found)})")
    if not told and len(opposite) < len(judged):
        claims.insert(0, f"no measure predicted which chosen responses fell ({_numbers(order[0], found)})")
    if (told or opposite) and len(found) > 1:
        claims.append("whether one measure is better than another was not tested")
    return f"{head} {'; '.join(claims)}."


def _numbers(name: str, found: Mapping[str, Evidence]) -> str:
    """Of one measure, named where there are several."""
    e = found[name]
    corrected = f", corrected for {len(found)} measures" if len(found) > 1 else ""
    interval = f"{100 * e.level:.4g}% interval {e.low:+.2f} to {e.high:+.2f}{corrected}"
    text = f"Spearman {e.spearman:+.2f}, {interval}, {e.pairs:,} pairs"
    return f"{name}: {text}" if len(found) > 1 else text


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
