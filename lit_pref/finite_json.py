"""Numbers as JSON can hold them. Knows nothing about what they mean."""

import math
from typing import Any


def finite(value: Any) -> Any:
    """The value with None for what is no finite number, in dictionaries, lists and tuples too."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
