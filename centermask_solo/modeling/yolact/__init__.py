"""YOLACT and YOLACT++: instance masks as combinations of prototypes."""

from .meta_arch import YOLACT

__all__ = ["YOLACT"]
