"""The layouts of weight files that are read: one file a source, each a table of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import adelaidet, centermask2, detectron2, mmdet, mobilenetv2, own, solo, timm, torchvision, vovnet, yolact
from .source import PixelFormat, Source, Translation

__all__ = ["SOURCES", "PixelFormat", "Source", "Translation", "find_source"]

# Asked in this order: detectors first, because a detector's file has a backbone, too.
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


def find_source(values: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> Source | None:
    """Where weights come from; None if no source knows them.

    Args:
        values: of a file, by their names there, from which most sources are known.
        metadata: what else is in the file, from which those of this package are known.
    """
    sources = own.own_sources() if metadata and own.is_own(metadata) else (*SOURCES, *own.unsigned_sources())
    return next((source for source in sources if source.recognises(values)), None)
