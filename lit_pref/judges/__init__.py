"""Judges: who decides whether a response is a refusal. A judge takes items and gives verdicts, and nothing else."""

from .agreement import Agreement, Calibration, agreement, calibrate, rogan_gladen
from .base import LABELS, Item, Judge, Label, Verdict
from .cache import VerdictCache
from .canaries import CANARIES, Canary, CanaryResult, canary_result, flip_rate
from .classifier import ClassifierJudge
from .endpoint import EndpointJudge
from .generative import GenerativeJudge
from .judging import judge_items
from .keyword import KeywordJudge
from .sorry_bench import SorryBenchJudge

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
    "rogan_gladen",
]
