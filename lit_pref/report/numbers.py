"""How numbers are written for people. Knows digits; nothing of what they count."""

import math

UNDEFINED = "undefined"


def signed(value: float, digits: int = 2) -> str:
    """With its sign in typographic digits; what rounds to nothing has no sign that means something."""
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "−∞" if value < 0 else "+∞"
    if abs(value) >= 1e5:
        return f"{value:+.1e}".replace("-", "−")
    rounded = round(value, digits) + 0.0
    return (f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}").replace("-", "−")


def share(value: float) -> str:
    """In per cent."""
    return UNDEFINED if math.isnan(value) else f"{value:.1%}".replace("-", "−")


def written(value: float, unit: str) -> str:
    """A value of a metric with this unit, without the unit's name."""
    if unit == "share":
        return share(value)
    return (UNDEFINED if math.isnan(value) else f"{value:.1f}") if unit == "tokens" else signed(value)


def changed(value: float, unit: str) -> str:
    """A difference of two such values; of shares, in points."""
    return signed(100 * value, 1) if unit == "share" else signed(value, 1 if unit == "tokens" else 2)


def is_nothing(value: float, unit: str) -> bool:
    """Whether a difference is written as 0."""
    return not changed(value, unit).strip("0.")


def probability(p: float) -> str:
    """A p-value."""
    return UNDEFINED if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def interval(low: float, high: float, unit: str, difference: bool = False) -> str:
    """Both ends in brackets; nothing where there is no interval. Shares end at 0 and 1, which Student's do not know."""
    if math.isnan(low) or math.isnan(high):
        return ""
    if unit == "share" and not difference:
        low, high = max(low, 0.0), min(high, 1.0)
    form = changed if difference else written
    return f"[{form(low, unit)}, {form(high, unit)}]"


def counted(n: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))
