"""YOLACT and YOLACT++: instance masks as combinations of prototypes."""

from .heads import YOLACTHead, YOLACTMaskIoUHead, YOLACTProtonet, YOLACTSemSegHead
from .meta_arch import YOLACT, YOLACTPredictions

__all__ = [
    "YOLACT",
    "YOLACTHead",
    "YOLACTMaskIoUHead",
    "YOLACTPredictions",
    "YOLACTProtonet",
    "YOLACTSemSegHead",
]
