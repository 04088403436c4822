"""YOLACT and YOLACT++: instance masks as combinations of prototypes."""

from centermask_solo.modeling.yolact.meta_arch import YOLACT

__all__ = ["YOLACT"]
