"""The names and shapes of published SOLO files, written down from descriptions of their layouts."""

from typing import NamedTuple

from tests.checkpoint.sources.detectors import NECK, OFFSETS, conv, norm, torchvision_backbone

GRIDS = (40, 36, 24, 16, 12)


class SOLO(NamedTuple):
    """What the published models differ in."""

    head: str = "plain"  # or "decoupled", "light"
    backbone: str = "resnet50"  # as torchvision calls it
    convs: int = 7  # of a tower
    backbone_dcn: str = ""  # "DCN" in stages 3 to 5, and in the last convolution of every tower


LIGHT, LIGHT_DCN = SOLO("light", convs=4), SOLO("light", convs=4, backbone_dcn="DCN")
MODELS = {
    "solo_R_50_1x": SOLO(),
    "solo_R_50_3x": SOLO(),
    "solo_R_101_3x": SOLO(backbone="resnet101"),
    "decoupled_solo_R_50_1x": SOLO("decoupled"),
    "decoupled_solo_R_50_3x": SOLO("decoupled"),
    "decoupled_solo_R_101_3x": SOLO("decoupled", "resnet101"),
    "decoupled_solo_R_50_light512_3x": LIGHT,
    "decoupled_solo_R_50_light512_dcn_3x": LIGHT_DCN,
}
# Entries without batch counters, and millions of numbers in the head, as they are described.
SIZES = {
    SOLO(): (335, 9.449),
    SOLO(backbone="resnet101"): (590, 9.449),
    SOLO("decoupled"): (366, 13.176),
    SOLO("decoupled", "resnet101"): (621, 13.176),
    LIGHT: (327, 5.502),
    LIGHT_DCN: (357, 5.585),
}


def tower(name, model, c_in):
    found = {}
    for i in range(model.convs):
        found |= conv(f"{name}.{i}.conv", 256, c_in, 3, bias=False) | norm(f"{name}.{i}.gn", 256)
        if model.backbone_dcn and i == model.convs - 1:
            found |= conv(f"{name}.{i}.conv.conv_offset", OFFSETS[model.backbone_dcn], c_in, 3)
        c_in = 256
    return found


def head(model, class_tower, mask_tower, masks, factors, classes, num_classes):
    """All of a head, from the names of its parts."""
    found = tower(class_tower, model, 256) | conv(classes, num_classes, 256, 3)
    axes = ("_x", "_y") if model.head == "decoupled" else ("",)
    for axis in axes:
        found |= tower(mask_tower + axis, model, 258 if axis == "" else 257)
    for level, side in enumerate(GRIDS):
        if model.head == "plain":
            found |= conv(f"{masks}.{level}", side * side, 256, 1)
        else:
            found |= conv(f"{factors}_x.{level}", side, 256, 3) | conv(f"{factors}_y.{level}", side, 256, 3)
    return found


def neck():
    found = {}
    for i, c_in in enumerate((256, 512, 1024, 2048)):
        found |= conv(NECK[0].format(index=i), 256, c_in, 1) | conv(NECK[1].format(index=i), 256, 256, 3)
    return found


def original(model, classes=80):
    names = ("cate_convs", "ins_convs", "solo_ins_list", "dsolo_ins_list")
    names += ("solo_cate" if model.head == "plain" else "dsolo_cate",)
    return torchvision_backbone(model) | neck() | head(model, *(f"bbox_head.{x}" for x in names), classes)


def mmdet(model, classes=80):
    names = ("cls_convs", "mask_convs", "conv_mask_list", "conv_mask_list", "conv_cls")
    return torchvision_backbone(model) | neck() | head(model, *(f"mask_head.{x}" for x in names), classes)
