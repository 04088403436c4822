"""Evaluators of datasets, and their results as a table and as a file."""

from .backends import find_backend
from .build import build_evaluator, check_evaluator
from .lvis import MaskScoreLVISEvaluator
from .mask_score import MaskScoreCOCOEvaluator
from .panoptic import PanopticEvaluator
from .results import format_results, write_results
from .semantic import SemanticEvaluator

__all__ = [
    "MaskScoreCOCOEvaluator",
    "MaskScoreLVISEvaluator",
    "PanopticEvaluator",
    "SemanticEvaluator",
    "build_evaluator",
    "check_evaluator",
    "find_backend",
    "format_results",
    "write_results",
]
