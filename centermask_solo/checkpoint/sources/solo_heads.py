"""SOLO and Decoupled SOLO, full and light, of the original repository and of mmdetection.

Files say by their names which head they have; the number of classes counts no background in either code base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .mmdet import PYRAMID_ROWS, tower_rows
from .source import PARAMETER, RGB_STANDARDIZED, Rename, Source, Table, renamed, table

NAME = "SOLO of the original repository (mmdetection 1.0)"
MMDET_NAME = "SOLO of mmdetection 2.x or 3.x"


def solo_names(*, class_tower: str, mask_tower: str, masks: str, factors: str, classes: str) -> Table:
    """Return the table of names of a SOLO or a Decoupled SOLO that is built from mmdetection's parts.

    Args:
        class_tower: Pattern of the class tower's name.
        mask_tower: The same of the mask tower; followed by _x and _y where there are two.
        masks: Pattern of the list of convolutions that give the masks of cells.
        factors: The same for those of columns and rows, to be followed by _x and _y.
        classes: Pattern of the convolution that gives the classes.
    """
    rows: list[tuple[str, Rename]] = [
        *tower_rows(class_tower, "ins_head.cate_tower"),
        *tower_rows(mask_tower, "ins_head.mask_tower"),
        (rf"{masks}\.(\d+)\.{PARAMETER}", r"ins_head.mask_pred.\1.\2"),
        (rf"{classes}\.{PARAMETER}", r"ins_head.cate_pred.\1"),
    ]
    for axis in ("_x", "_y"):
        rows += tower_rows(mask_tower + axis, f"ins_head.mask_tower{axis}")
        rows.append((rf"{factors}{axis}\.(\d+)\.{PARAMETER}", rf"ins_head.mask_pred{axis}.\1.\2"))
    return table(*PYRAMID_ROWS, *rows)


NAMES = solo_names(
    class_tower=r"bbox_head\.cate_convs",
    mask_tower=r"bbox_head\.ins_convs",
    masks=r"bbox_head\.solo_ins_list",
    factors=r"bbox_head\.dsolo_ins_list",
    classes=r"bbox_head\.d?solo_cate",
)
MMDET_NAMES = solo_names(
    class_tower=r"mask_head\.cls_convs",
    mask_tower=r"mask_head\.mask_convs",
    masks=r"mask_head\.conv_mask_list",
    factors=r"mask_head\.conv_mask_list",
    classes=r"mask_head\.conv_cls",
)


def _has_any(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return a predicate: whether a file has one of ``names``."""
    return lambda values: any(name in values for name in names)


SOURCE = Source(
    NAME,
    "SOLO",
    _has_any("bbox_head.solo_ins_list.0.weight", "bbox_head.dsolo_ins_list_x.0.weight"),
    renamed(NAMES, NAME),
    lambda values: RGB_STANDARDIZED,
)
MMDET = Source(
    MMDET_NAME,
    "SOLO",
    _has_any("mask_head.conv_mask_list.0.weight", "mask_head.conv_mask_list_x.0.weight"),
    renamed(MMDET_NAMES, MMDET_NAME),
    lambda values: RGB_STANDARDIZED,
    always_this_format=False,  # many train on Caffe's images there
)
