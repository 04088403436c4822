"""CenterMask: FCOS boxes, a spatial attention-guided mask head on each of them, and the masks' predicted IoU."""

from .fcos import FCOS, DecodeOptions
from .heads import FCOSHead, FCOSPredictions, MaskIoUHead, SpatialAttentionMaskHead
from .meta_arch import CenterMask
from .pooler import AdaptiveROIPooler
from .roi_heads import CenterROIHeads
from .tta import CenterMaskWithTTA

__all__ = [
    "FCOS",
    "AdaptiveROIPooler",
    "CenterMask",
    "CenterMaskWithTTA",
    "CenterROIHeads",
    "DecodeOptions",
    "FCOSHead",
    "FCOSPredictions",
    "MaskIoUHead",
    "SpatialAttentionMaskHead",
]
