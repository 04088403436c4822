"""SOLOv2 of mmdetection 2.x and 3.x, whose parameters have the same names."""

from __future__ import annotations

from .source import (
    BACKBONE,
    BATCH_COUNTER,
    PARAMETER,
    RGB_STANDARDIZED,
    STATED,
    Rename,
    Source,
    Table,
    has_names,
    renamed,
    resnet_rows,
    table,
)

NAME = "SOLOv2 of mmdetection 2.x or 3.x"


def solov2_names(*, towers: str, outputs: str, class_word: str, mask_head: str, mask_output: str) -> Table:
    """Return the table of names of a SOLOv2 that is built from mmdetection's parts.

    A convolution there is a module with children ``conv`` and ``gn``; here both are items of a sequence, which in the
    towers counts the ReLUs, too.

    Args:
        towers: Pattern of a tower's name, with "{}" for the word of the class or the kernel tower.
        outputs: The same for the convolution behind the tower.
        class_word: Word of the class tower, "cate" or "cls".
        mask_head: Pattern of the mask head's name.
        mask_output: Pattern of the name of its last convolution.
    """
    rows: list[tuple[str, Rename]] = []
    for theirs, tower, output in ((class_word, "cate_tower", "cate_pred"), ("kernel", "kernel_tower", "kernel_pred")):
        rows += tower_rows(towers.format(theirs), f"ins_head.{tower}")
        rows.append((rf"{outputs.format(theirs)}\.{PARAMETER}", rf"ins_head.{output}.\1"))
    parts = (
        (rf"{mask_head}\.(convs_all_levels\.\d+\.conv\d+)", r"mask_head.\1."),
        (rf"{mask_head}\.({mask_output})", "mask_head.conv_pred."),
    )
    for theirs, ours in parts:
        rows += [
            (rf"{theirs}\.conv\.(weight|conv_offset\.weight|conv_offset\.bias)", rf"{ours}0.\2"),
            (rf"{theirs}\.gn\.{PARAMETER}", rf"{ours}1.\2"),
        ]
    return table(*PYRAMID_ROWS, *rows)


# All but the heads.
PYRAMID_ROWS: tuple[tuple[str, Rename], ...] = (
    (r".+\.num_batches_tracked", BATCH_COUNTER),
    (r"data_preprocessor\.(mean|std)", STATED),
    *resnet_rows(r"backbone\.", BACKBONE),
    (rf"neck\.lateral_convs\.(\d+)\.conv\.{PARAMETER}", lambda m: f"backbone.fpn_lateral{int(m[1]) + 2}.{m[2]}"),
    (rf"neck\.fpn_convs\.(\d+)\.conv\.{PARAMETER}", lambda m: f"backbone.fpn_output{int(m[1]) + 2}.{m[2]}"),
)


def tower_rows(theirs: str, ours: str) -> list[tuple[str, Rename]]:
    """Return the rows of a table for the convolutions of a tower and their norms, deformable convolutions included.

    Args:
        theirs: Pattern of the tower's name there, without groups.
        ours: Name here.
    """
    at = rf"{theirs}\.(\d+)\."
    return [
        (rf"{at}conv\.weight", lambda m: f"{ours}.{3 * int(m[1])}.weight"),
        (rf"{at}(?:conv\.)?conv_offset\.{PARAMETER}", lambda m: f"{ours}.{3 * int(m[1])}.conv_offset.{m[2]}"),
        (rf"{at}gn\.{PARAMETER}", lambda m: f"{ours}.{3 * int(m[1]) + 1}.{m[2]}"),
    ]


NAMES = solov2_names(
    towers=r"mask_head\.{}_convs",
    outputs=r"mask_head\.conv_{}",
    class_word="cls",
    mask_head=r"mask_head\.mask_feature_head",
    mask_output="conv_pred",
)


SOURCE = Source(
    NAME,
    "SOLOv2",
    has_names("mask_head.conv_kernel.weight", "mask_head.mask_feature_head.conv_pred.conv.weight"),
    renamed(NAMES, NAME),
    lambda values: RGB_STANDARDIZED,
    always_this_format=False,  # many train on Caffe's images there
)
