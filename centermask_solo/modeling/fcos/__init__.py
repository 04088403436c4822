"""FCOS: a box detector, and the proposal generator of systems that are built on it."""

from .heads import FCOSHead, FCOSPredictions
from .meta_arch import FCOS
from .proposal_generator import DecodeLimits, FCOSProposalGenerator, build_semantic_head
from .targets import FCOSTargets

__all__ = [
    "FCOS",
    "DecodeLimits",
    "FCOSHead",
    "FCOSPredictions",
    "FCOSProposalGenerator",
    "FCOSTargets",
    "build_semantic_head",
]
