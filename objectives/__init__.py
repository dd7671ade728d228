"""Preference objectives: scores of pairs in, losses out. One paper, one file; imports torch and nothing else."""

from .base import Objective, ObjectiveOutput, PairScores, SequenceScores, TokenScores, log_ratios
from .compose import WeightedSum
from .dpo import DPO, dpo_losses
from .ipo import IPO, ipo_losses
from .sft import SFT, sft_losses
from .simpo import SimPO, simpo_losses

__all__ = [
    "DPO",
    "IPO",
    "SFT",
    "Objective",
    "ObjectiveOutput",
    "PairScores",
    "SequenceScores",
    "SimPO",
    "TokenScores",
    "WeightedSum",
    "dpo_losses",
    "ipo_losses",
    "log_ratios",
    "sft_losses",
    "simpo_losses",
]
