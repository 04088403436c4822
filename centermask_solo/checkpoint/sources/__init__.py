"""The layouts of weight files that are read: one file a source, each a table of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import torchvision, yolact
from .source import PixelFormat, Source, Translation

__all__ = ["SOURCES", "PixelFormat", "Source", "Translation", "find_source"]

# Asked in this order: detectors first, because a detector's file has a backbone, too.
SOURCES: tuple[Source, ...] = (
    yolact.SOURCE,
    torchvision.SOURCE,
    yolact.DARKNET,
)


def find_source(values: Mapping[str, Any]) -> Source | None:
    """Where weights come from, by their names and shapes; None if no source knows them."""
    return next((source for source in SOURCES if source.recognises(values)), None)
