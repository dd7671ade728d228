"""Names under which refusals are logged, without their stage. Knows nothing about loggers, judges or models."""

from .judges.agreement import Agreement
from .refusal_statistics import Paired
from .refusals import Summary


def summary_scalars(found: Summary, name: str, over: str) -> dict[str, float]:
    """What a judge found; no rate at all where the judge could not be asked."""
    counts = {
        f"judge/{over}unparseable_{name}": float(found.counts.unparseable),
        f"judge/{over}error_{name}": float(found.counts.error),
    }
    if not found.asked:
        return counts
    return counts | {
        f"refusal/{over}rate_{name}": found.rate,
        f"refusal/{over}low_{name}": found.interval.low,
        f"refusal/{over}high_{name}": found.interval.high,
        f"refusal/{over}worst_low_{name}": found.bounds.low,
        f"refusal/{over}worst_high_{name}": found.bounds.high,
        f"refusal/{over}compliance_{name}": found.compliance,
        f"refusal/{over}partial_{name}": found.partial,
    }


def change_scalars(found: Paired, name: str, over: str) -> dict[str, float]:
    """The change since the first evaluation."""
    return {
        f"refusal/{over}change_{name}": found.difference,
        f"refusal/{over}change_low_{name}": found.interval.low,
        f"refusal/{over}change_high_{name}": found.interval.high,
        f"refusal/{over}change_p_{name}": found.p_value,
    }


def agreement_scalars(found: Agreement, name: str) -> dict[str, float]:
    """A judge's agreement with the main one; nothing without a common verdict."""
    if not found.n:
        return {}
    return {
        f"judge/kappa_{name}": found.kappa,
        f"judge/kappa_low_{name}": found.interval.low,
        f"judge/kappa_high_{name}": found.interval.high,
        f"judge/agreement_{name}": found.raw,
        f"judge/main_refusals_{name}": found.first["refusal"],
        f"judge/own_refusals_{name}": found.second["refusal"],
    }
