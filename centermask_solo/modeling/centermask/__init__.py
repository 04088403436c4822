"""CenterMask: FCOS boxes, a mask head with spatial attention on each of them, and the predicted IoU of the masks."""

from .heads import MaskIoUHead, SpatialAttentionMaskHead
from .meta_arch import CenterMask, CenterMaskPredictions
from .pooler import AdaptiveROIPooler
from .roi_heads import CenterROIHeads
from .tta import CenterMaskWithTTA

__all__ = [
    "AdaptiveROIPooler",
    "CenterMask",
    "CenterMaskPredictions",
    "CenterMaskWithTTA",
    "CenterROIHeads",
    "MaskIoUHead",
    "SpatialAttentionMaskHead",
]
