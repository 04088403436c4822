"""Weights: read from files of many code bases, loaded into models, and saved."""

from .checkpointer import Checkpointer
from .files import Weights, read_weights
from .sources import SOURCES, PixelFormat, Source, Translation, find_source

__all__ = [
    "SOURCES",
    "Checkpointer",
    "PixelFormat",
    "Source",
    "Translation",
    "Weights",
    "find_source",
    "read_weights",
]
