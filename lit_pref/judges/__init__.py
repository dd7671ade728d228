"""Judges: who decides whether a response is a refusal. A judge takes items and gives verdicts, and nothing else.

Judges that are models are imported when they are asked for, so that a list of phrases does not wait for torch.
`Judge` brings all of them along: who asks for the base class looks for its subclasses by their bare names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .agreement import Agreement, Calibration, agreement, calibrate, nominal_alpha, rogan_gladen
from .base import LABELS, Item, Label, Verdict
from .cache import VerdictCache
from .canaries import CANARIES, Canary, CanaryResult, canary_result, flip_rate
from .endpoint import EndpointJudge
from .judging import judge_items
from .keyword import KeywordJudge

if TYPE_CHECKING:
    from .base import Judge
    from .classifier import ClassifierJudge
    from .generative import GenerativeJudge
    from .sorry_bench import SorryBenchJudge

#: What loads torch and transformers, and where it is.
HEAVY = {"ClassifierJudge": "classifier", "GenerativeJudge": "generative", "SorryBenchJudge": "sorry_bench"}

__all__ = [
    "CANARIES",
    "LABELS",
    "Agreement",
    "Calibration",
    "Canary",
    "CanaryResult",
    "ClassifierJudge",
    "EndpointJudge",
    "GenerativeJudge",
    "Item",
    "Judge",
    "KeywordJudge",
    "Label",
    "SorryBenchJudge",
    "Verdict",
    "VerdictCache",
    "agreement",
    "calibrate",
    "canary_result",
    "flip_rate",
    "judge_items",
    "nominal_alpha",
    "rogan_gladen",
]


def __getattr__(name: str) -> Any:
    """What is not imported yet; AttributeError where there is no such name."""
    if name == "Judge":
        for heavy in HEAVY:
            __getattr__(heavy)
        return import_module(".base", __name__).Judge
    if name in HEAVY:
        return getattr(import_module(f".{HEAVY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
