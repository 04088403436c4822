"""SOLOv2 of the authors' original repository, which builds on mmdetection 1.0: full, Light and deformable models.

The class channels are in the same order as here: labels there count from 1, with the background as class 0 of 81, but
the 80 outputs count from 0.
"""

from __future__ import annotations

from .mmdet import solov2_names
from .source import RGB_STANDARDIZED, Source, has_names, renamed

NAME = "SOLOv2 of the original repository (mmdetection 1.0)"
NAMES = solov2_names(
    towers=r"bbox_head\.{}_convs",
    outputs=r"bbox_head\.solo_{}",
    class_word="cate",
    mask_head="mask_feat_head",
    mask_output=r"conv_pred\.0",
)


SOURCE = Source(
    NAME,
    "SOLOv2",
    has_names("bbox_head.solo_kernel.weight", "mask_feat_head.conv_pred.0.conv.weight"),
    renamed(NAMES, NAME),
    lambda values: RGB_STANDARDIZED,
)
