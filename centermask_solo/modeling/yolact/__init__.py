"""YOLACT and YOLACT++: instance masks as combinations of prototypes."""

from .heads import YOLACTHead, YOLACTMaskIoUHead, YOLACTPredictions, YOLACTProtonet
from .meta_arch import YOLACT

__all__ = [
    "YOLACT",
    "YOLACTHead",
    "YOLACTMaskIoUHead",
    "YOLACTPredictions",
    "YOLACTProtonet",
]
