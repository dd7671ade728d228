"""Numbers of several runs as cells of a table, with their intervals. Knows counts; nothing about arms or models."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from scipy.stats import t as student

from ..refusal_statistics import Interval, RefusalCounts, wilson


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's interval of the mean over runs; NaN of fewer than two."""
    if len(values) < 2:
        return Interval(math.nan, math.nan)
    mean, error = statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))
    half = float(student.ppf(0.5 + confidence / 2, len(values) - 1)) * error
    return Interval(mean - half, mean + half)


def rate_cell(counts: Sequence[RefusalCounts]) -> str:
    """A rate with both of its intervals, or its bounds where too much has no verdict."""
    if any(math.isnan(c.reported()) for c in counts):
        low, high = (statistics.mean(c.bounds()[end] for c in counts) for end in (0, 1))
        return f"{low:.1%} to {high:.1%} (bounds)"
    rates = [c.reported() for c in counts]
    n = round(statistics.mean(c.verdicts for c in counts))
    runs = t_interval(rates)
    over_prompts = wilson(round(statistics.mean(rates) * n), n)
    over_runs = "" if math.isnan(runs.low) else f"{_ends(runs)}; "
    return f"{statistics.mean(rates):.1%} ({over_runs}{_ends(over_prompts)})"


def complied(counts: Sequence[RefusalCounts]) -> list[RefusalCounts]:
    """The same counts with compliance in the place of refusal, for whatever reads the refusals."""
    return [replace(c, refusal=c.compliance, compliance=c.refusal) for c in counts]


def without_verdict(counts: Sequence[RefusalCounts]) -> list[RefusalCounts]:
    """What has no verdict in the place of refusal, and everything counts."""
    return [RefusalCounts(refusal=c.unparseable + c.error, compliance=c.verdicts) for c in counts]


def share_cell(counts: Sequence[RefusalCounts], kinds: Sequence[str]) -> str:
    """Mean share of some kinds of label among all responses."""
    return f"{statistics.mean(sum(getattr(c, k) for k in kinds) / max(c.total, 1) for c in counts):.1%}"


def range_cell(values: Sequence[int]) -> str:
    """A number where all runs have the same, or the lowest and the highest."""
    if not values:
        return "–"
    return str(values[0]) if min(values) == max(values) else f"{min(values)}–{max(values)}"


def change_cell(values: Sequence[float]) -> str:
    """Mean of changes in nats with the interval over runs."""
    if not values:
        return "–"
    ends = t_interval(values)
    spread = "" if math.isnan(ends.low) else f" ({ends.low:+.1f} to {ends.high:+.1f})"
    return f"{statistics.mean(values):+.1f}{spread}"


def _ends(interval: Interval) -> str:
    return f"{max(interval.low, 0):.0%}–{min(interval.high, 1):.0%}"
