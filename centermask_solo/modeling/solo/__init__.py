"""SOLO and Decoupled SOLO: every cell of a grid has a mask map, or a column and a row map, of its own."""

from .heads import HEADS, DecoupledLightSOLOHead, DecoupledSOLOHead, SOLOHead
from .meta_arch import SOLO
from .predictions import DecoupledPredictions, SOLOPredictions

__all__ = [
    "HEADS",
    "SOLO",
    "DecoupledLightSOLOHead",
    "DecoupledPredictions",
    "DecoupledSOLOHead",
    "SOLOHead",
    "SOLOPredictions",
]
