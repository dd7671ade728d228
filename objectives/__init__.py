"""Preference objectives: scores of pairs in, losses out. One paper, one file; imports torch and nothing else."""

from .alphapo import AlphaPO
from .aot import AOT
from .apo import APODown, APOZero, APOZeroUnpaired
from .balance import BalancedGradients, DisentanglementBand
from .base import Objective, ObjectiveOutput, PairScores, SequenceScores, TokenScores, log_ratios
from .bco import BCO
from .bpo import BPO
from .cal_dpo import CalDPO
from .compose import WeightedSum
from .cpo import CPO
from .discopop import DiscoPOP
from .dpo import DPO, dpo_losses
from .dpo_norm import DPONorm
from .dpo_shift import DPOShift
from .dpop import DPOP
from .exo import EXO
from .fdpo import FDPO
from .gpo import GPO
from .hinge import Hinge
from .ipo import IPO, ipo_losses
from .kto import KTO
from .ld_dpo import LengthDesensitized
from .nca import NCA
from .odpo import ODPO
from .orpo import ORPO
from .rdpo import RDPO
from .rebel import REBEL
from .robust_dpo import RobustDPO
from .rpo import RPO
from .rrhf import RRHF
from .sft import SFT, sft_losses
from .simpo import SimPO, simpo_losses
from .slic import SLiC
from .sppo import SPPO
from .token_mask import TokenMask
from .weighted_dpo import WeightedDPO
from .wpo import WPO

__all__ = [
    "AOT",
    "BCO",
    "BPO",
    "CPO",
    "DPO",
    "DPOP",
    "EXO",
    "FDPO",
    "GPO",
    "IPO",
    "KTO",
    "NCA",
    "ODPO",
    "ORPO",
    "RDPO",
    "REBEL",
    "RPO",
    "RRHF",
    "SFT",
    "SPPO",
    "WPO",
    "APODown",
    "APOZero",
    "APOZeroUnpaired",
    "AlphaPO",
    "BalancedGradients",
    "CalDPO",
    "DPONorm",
    "DPOShift",
    "DiscoPOP",
    "DisentanglementBand",
    "Hinge",
    "LengthDesensitized",
    "Objective",
    "ObjectiveOutput",
    "PairScores",
    "RobustDPO",
    "SLiC",
    "SequenceScores",
    "SimPO",
    "TokenMask",
    "TokenScores",
    "WeightedDPO",
    "WeightedSum",
    "dpo_losses",
    "ipo_losses",
    "log_ratios",
    "sft_losses",
    "simpo_losses",
]
