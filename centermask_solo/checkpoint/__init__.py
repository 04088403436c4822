"""Weights: read from files of many code bases, loaded into models, and saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .files import Weights, read_weights
from .fit import Fit, fit_weights
from .sources import SOURCES, PixelFormat, Source, Translation, find_source
from .weight_file import WeightFile, read_weight_file

if TYPE_CHECKING:
    from .checkpointer import Checkpointer

__all__ = [
    "SOURCES",
    "Checkpointer",
    "Fit",
    "PixelFormat",
    "Source",
    "Translation",
    "WeightFile",
    "Weights",
    "find_source",
    "fit_weights",
    "read_weight_file",
    "read_weights",
]


def __getattr__(name: str) -> Any:
    """Import the checkpointer when it is used; without it, files are read in half the time."""
    if name != "Checkpointer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .checkpointer import Checkpointer

    return Checkpointer
