"""The names and shapes of published SOLOv2 and CenterMask2 files, written down from descriptions of their layouts."""

from typing import NamedTuple

import torch

from tests.checkpoint.sources.backbones import VOVNETS, in_detectron2_words, mobilenetv2, torchvision_shapes, vovnet

BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
OFFSETS = {"DCN": 18, "DCNv2": 27}  # channels: a vertical and a horizontal one for each of 3x3 taps, and a mask


def conv(name, c_out, c_in, k, bias=True):
    return {f"{name}.weight": (c_out, c_in, k, k)} | ({f"{name}.bias": (c_out,)} if bias else {})


def norm(name, channels, values=("weight", "bias")):
    return {f"{name}.{value}": () if value == "num_batches_tracked" else (channels,) for value in values}


class SOLOv2(NamedTuple):
    """What the published models differ in."""

    backbone: str = "resnet50"  # as torchvision calls it
    convs: int = 4  # of a tower
    width: int = 512  # of a tower
    kernels: int = 256
    backbone_dcn: str = ""  # kind of the deformable convolutions in stages 3 to 5
    deformable_convs: tuple[int, ...] = ()  # of a tower
    deformable_masks: bool = False


class Layout(NamedTuple):
    """How a code base calls the parts of a SOLOv2."""

    tower: str  # a convolution, from the word for the tower and its index
    tower_norm: str
    words: tuple[str, str]  # for the class tower and for the kernel tower
    outputs: tuple[str, str]
    masks: str  # of the mask head: a convolution, from level and index
    masks_norm: str
    mask_output: str
    mask_output_norm: str
    lateral: str  # from the index of the level
    output: str


ADELAIDET = Layout(
    *("ins_head.{}_tower.{first}", "ins_head.{}_tower.{second}", ("cate", "kernel")),
    ("ins_head.cate_pred", "ins_head.kernel_pred"),
    *("mask_head.convs_all_levels.{}.conv{}.0", "mask_head.convs_all_levels.{}.conv{}.1"),
    *("mask_head.conv_pred.0", "mask_head.conv_pred.1", "backbone.fpn_lateral{level}", "backbone.fpn_output{level}"),
)
NECK = ("neck.lateral_convs.{index}.conv", "neck.fpn_convs.{index}.conv")
SOLO = Layout(
    *("bbox_head.{}_convs.{i}.conv", "bbox_head.{}_convs.{i}.gn", ("cate", "kernel")),
    ("bbox_head.solo_cate", "bbox_head.solo_kernel"),
    *("mask_feat_head.convs_all_levels.{}.conv{}.conv", "mask_feat_head.convs_all_levels.{}.conv{}.gn"),
    *("mask_feat_head.conv_pred.0.conv", "mask_feat_head.conv_pred.0.gn", *NECK),
)
MMDET = Layout(
    *("mask_head.{}_convs.{i}.conv", "mask_head.{}_convs.{i}.gn", ("cls", "kernel")),
    ("mask_head.conv_cls", "mask_head.conv_kernel"),
    *(f"mask_head.mask_feature_head.convs_all_levels.{{}}.conv{{}}.{part}" for part in ("conv", "gn")),
    *(f"mask_head.mask_feature_head.conv_pred.{part}" for part in ("conv", "gn")),
    *NECK,
)


def solov2(model, layout, classes=80):
    """Everything but the backbone and the pyramid's normalizations."""
    found = {}
    channels = (64, 128, 256, 512) if model.backbone in ("resnet18", "resnet34") else (256, 512, 1024, 2048)
    for index, c_in in enumerate(channels):
        at = {"index": index, "level": index + 2}
        found |= conv(layout.lateral.format(**at), 256, c_in, 1) | conv(layout.output.format(**at), 256, 256, 3)

    offsets = OFFSETS[model.backbone_dcn] if model.backbone_dcn else 0
    for word, output, c_in, c_out in zip(
        layout.words, layout.outputs, (256, 258), (classes, model.kernels), strict=True
    ):
        for i in range(model.convs):
            at = {"i": i, "first": 3 * i, "second": 3 * i + 1}
            name = layout.tower.format(word, **at)
            found |= conv(name, model.width, c_in, 3, bias=False)
            if i in model.deformable_convs:
                found |= conv(f"{name}.conv_offset", offsets, c_in, 3)
            found |= norm(layout.tower_norm.format(word, **at), model.width)
            c_in = model.width
        found |= conv(output, c_out, model.width, 3)

    for level in range(4):
        for j in range(max(level, 1)):
            c_in = 128 if j else 258 if level == 3 else 256
            name = layout.masks.format(level, j)
            found |= conv(name, 128, c_in, 3, bias=False) | norm(layout.masks_norm.format(level, j), 128)
            if model.deformable_masks:
                found |= conv(f"{name}.conv_offset", offsets, c_in, 3)
    found |= conv(layout.mask_output, model.kernels, 128, 1, bias=False)
    if model.deformable_masks:
        found |= conv(f"{layout.mask_output}.conv_offset", offsets // 9, 128, 1)
    return found | norm(layout.mask_output_norm, model.kernels)


def torchvision_backbone(model, offset=".conv2.conv_offset"):
    """As mmdetection of any version calls it."""
    found = {f"backbone.{key}": shape for key, shape in torchvision_shapes(model.backbone).items() if "fc." not in key}
    if model.backbone_dcn:
        for key, shape in list(found.items()):
            if key.endswith("conv2.weight") and "layer1" not in key:
                name = key.replace(".conv2.weight", offset)
                found |= conv(name, OFFSETS[model.backbone_dcn], shape[0], 3)
    return found


def detectron2_resnet(name, batch_norm=False):
    found = in_detectron2_words(torchvision_shapes(name))
    return {
        f"backbone.bottom_up.{key}": shape
        for key, shape in found.items()
        if "fc." not in key and (batch_norm or not key.endswith("num_batches_tracked"))
    }


def adelaidet(backbone="resnet50", classes=80):
    return detectron2_resnet(backbone) | solov2(SOLOv2(backbone), ADELAIDET, classes)


def adelaidet_syncbn():
    """Batch normalizations in the backbone, and in the pyramid instead of biases."""
    found = detectron2_resnet("resnet50", batch_norm=True) | solov2(SOLOv2(), ADELAIDET)
    for at in [f"backbone.fpn_{kind}{level}" for kind in ("lateral", "output") for level in (2, 3, 4, 5)]:
        del found[f"{at}.bias"]
        found |= norm(f"{at}.norm", 256, BATCH_NORM)
    return found


def solo(model, classes=80):
    return torchvision_backbone(model) | solov2(model, SOLO, classes)


def mmdet(model, classes=80):
    return torchvision_backbone(model) | solov2(model, MMDET, classes)


def renamed(values, make):
    """The weights of AdelaiDet's R50 model as another code base stores them.

    Args:
        values: in AdelaiDet's names.
        make: ``solo`` or ``mmdet``.
    """
    theirs = make(SOLOv2())
    counters = {key: torch.zeros(()) for key in theirs if key.endswith("num_batches_tracked")}
    names = [key for key in theirs if key not in counters]
    # Both descriptions go through a model in the same order.
    return dict(zip(names, (values[key] for key in adelaidet()), strict=True)) | counters


class CenterMask(NamedTuple):
    """What the published models differ in."""

    body: str  # of VoVNetV2, or as torchvision calls it
    lite: bool = False
    deformable: bool = False
    panoptic: bool = False


def centermask_backbone(model):
    """The bottom-up part, and its channels at strides 4 to 32."""
    if model.body == "mobilenet_v2":
        return mobilenetv2("backbone.bottom_up."), (24, 32, 96, 320)
    if model.body not in VOVNETS:
        return detectron2_resnet(model.body), (256, 512, 1024, 2048)
    found = vovnet(model.body)
    if model.deformable:
        for key, shape in list(found.items()):
            if ".layers." in key and key.endswith("/conv.weight") and ".stage2." not in key:
                found |= conv(f"{key.removesuffix('.weight')}_offset", 27, shape[1], 3)
    return found, VOVNETS[model.body][2]


def centermask(model, classes=80):
    found, channels = centermask_backbone(model)
    c, convs = (128, 2) if model.lite else (256, 4)
    for level in (2, 3, 4, 5) if model.panoptic else (3, 4, 5):
        found |= conv(f"backbone.fpn_lateral{level}", c, channels[level - 2], 1)
        found |= conv(f"backbone.fpn_output{level}", c, c, 3)
    found |= conv("backbone.top_block.p6", c, c, 3) | conv("backbone.top_block.p7", c, c, 3)

    head = "proposal_generator.fcos_head"
    for tower in ("cls_tower", "bbox_tower"):
        for i in range(convs):
            found |= conv(f"{head}.{tower}.{3 * i}", c, c, 3) | norm(f"{head}.{tower}.{3 * i + 1}", c)
    for output, c_out in (("cls_logits", classes), ("bbox_pred", 4), ("ctrness", 1)):
        found |= conv(f"{head}.{output}", c_out, c, 3)
    found |= {f"{head}.scales.{i}.scale": (1,) for i in range(5)}

    for i in range(1, convs + 1):
        found |= conv(f"roi_heads.mask_head.mask_fcn{i}", c, c, 3)
        found |= conv(f"roi_heads.maskiou_head.maskiou_fcn{i}", c, c + (i == 1), 3)
    found |= conv("roi_heads.mask_head.spatialAtt.conv", 1, 2, 3, bias=False)
    found |= conv("roi_heads.mask_head.deconv", c, c, 2) | conv("roi_heads.mask_head.predictor", classes, c, 1)
    for name, shape in (("maskiou_fc1", (1024, 49 * c)), ("maskiou_fc2", (1024, 1024)), ("maskiou", (classes, 1024))):
        at = f"roi_heads.maskiou_head.{name}"
        found |= {f"{at}.weight": shape, f"{at}.bias": shape[:1]}

    if model.panoptic:
        for name in ("p2.0", "p3.0", "p4.0", "p4.2", "p5.0", "p5.2", "p5.4"):
            at = f"sem_seg_head.{name}"
            found |= conv(at, 128, 256 if name.endswith(".0") else 128, 3, bias=False) | norm(f"{at}.norm", 128)
        found |= conv("sem_seg_head.predictor", 54, 128, 1)
    return found
