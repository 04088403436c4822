"""R-CNN: regions of the image, warped and classified one by one."""

from .meta_arch import RCNN

__all__ = ["RCNN"]
