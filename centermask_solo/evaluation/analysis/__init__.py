"""Where the average precision of a model is lost: by class, size and crowding, by kind of error, and by image."""

from .objects import Annotated, Detected, read_annotated, read_detected
from .summary import Analysis, Comparison, analyze_detections, compare_detections

__all__ = [
    "Analysis",
    "Annotated",
    "Comparison",
    "Detected",
    "analyze_detections",
    "compare_detections",
    "read_annotated",
    "read_detected",
]
