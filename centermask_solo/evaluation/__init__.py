from .build import build_evaluator
from .results import format_results, write_results

__all__ = ["build_evaluator", "format_results", "write_results"]
