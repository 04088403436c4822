"""SOLOv2: instance masks from dynamic kernels and one map of mask features."""

from .heads import SOLOv2InstanceHead, SOLOv2MaskHead, SOLOv2Predictions
from .meta_arch import SOLOv2
from .panoptic import PanopticSOLOv2

__all__ = ["PanopticSOLOv2", "SOLOv2", "SOLOv2InstanceHead", "SOLOv2MaskHead", "SOLOv2Predictions"]
