"""SOLOv2: instance masks from dynamic kernels and one map of mask features."""

from .heads import SOLOv2InstanceHead, SOLOv2MaskHead, SOLOv2Predictions
from .meta_arch import SOLOv2

__all__ = ["SOLOv2", "SOLOv2InstanceHead", "SOLOv2MaskHead", "SOLOv2Predictions"]
