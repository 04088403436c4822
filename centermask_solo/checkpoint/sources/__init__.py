"""The layouts of weight files that can be read: one file per source, each a table of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import adelaidet, centermask2, detectron2, mmdet, mobilenetv2, own, solo, timm, torchvision, vovnet, yolact
from .source import PixelFormat, Source, Translation

__all__ = ["SOURCES", "PixelFormat", "Source", "Translation", "find_source"]

# In the order in which they are asked: detectors first, because a detector's file has a backbone, too.
SOURCES: tuple[Source, ...] = (
    solo.SOURCE,
    mmdet.SOURCE,
    adelaidet.SOURCE,
    centermask2.PANOPTIC,
    centermask2.SOURCE,
    yolact.SOURCE,
    torchvision.SOURCE,
    detectron2.CAFFE2,
    detectron2.SOURCE,
    vovnet.SOURCE,
    timm.SOURCE,
    mobilenetv2.SOURCE,
    mobilenetv2.TORCHVISION,
    yolact.DARKNET,
)


def find_source(values: Mapping[str, Any], *, own_file: bool = False) -> Source | None:
    """Return the source of weights, identified by their names; None if no source knows them.

    Args:
        values: Weights by their names in the file.
        own_file: Whether this package wrote the file, according to its metadata.
    """
    sources = own.own_sources() if own_file else (*SOURCES, *own.unsigned_sources())
    return next((source for source in sources if source.recognizes(values)), None)
