"""Evaluators of datasets, and their results as a table and as a file."""

from .build import build_evaluator
from .mask_score import MaskScoreCOCOEvaluator
from .results import format_results, write_results

__all__ = ["MaskScoreCOCOEvaluator", "build_evaluator", "format_results", "write_results"]
