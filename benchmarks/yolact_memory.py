"""Measure memory and time of YOLACT's decoding, NMS and full-size masks on synthetic outputs of the networks.

python -m benchmarks.yolact_memory [--device cuda] [--runs 5] [--write]

Inputs have 550 x 550 pixels, images at most 1080 x 1920. The outputs of the networks do not count; the full-size masks,
the result, do: 207 MB for 100 of them.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.structures import Instances
from torch import Tensor, nn

from benchmarks import postprocessing
from centermask_solo.modeling.instance_nms import InstanceNMS, NMSOptions
from centermask_solo.modeling.semantic import SemanticHead
from centermask_solo.modeling.yolact import YOLACT
from centermask_solo.modeling.yolact.anchors import grid_anchors, level_shapes
from centermask_solo.modeling.yolact.decode import frame_of, mask_probabilities
from centermask_solo.modeling.yolact.heads import YOLACTHead, YOLACTMaskIoUHead, YOLACTProtonet
from centermask_solo.modeling.yolact.meta_arch import YOLACTPredictions
from centermask_solo.utils.errors import reported_errors

INPUT_SIZE = 550
LEVELS = tuple((n, n) for n in (69, 35, 18, 9, 5))
ANCHOR_SIZES = (24, 48, 96, 192, 384)
RATIOS = (1.0, 2.0, 0.5)
PROTOTYPES = (32, 138, 138)


class Case(NamedTuple):
    """A set of synthetic outputs and settings.

    Attributes:
        what: Description.
        passing: Share of the anchors whose best class is above the threshold.
        whole_image: Whether every box covers the whole image, with masks that fill it.
        plus: Whether the model is a YOLACT++, with three times as many anchors, and mask scores.
        output_size: (height, width) of the result.
        dtype: Type of the networks' outputs.
        num_classes: K.
        score_thresh: Probability that the best class of a candidate must exceed.
        max_detections: Maximum number of instances.
    """

    what: str
    passing: float = 1.0
    whole_image: bool = False
    plus: bool = False
    output_size: tuple[int, int] = (1080, 1920)
    dtype: torch.dtype = torch.float32
    num_classes: int = 80
    score_thresh: float = 0.05
    max_detections: int = 100


CASES = {
    "typical": Case("1 % of 19,248 anchors pass", passing=0.01),
    "typical_640x480": Case("the same, result of 480 x 640", 0.01, output_size=(480, 640)),
    "all_pass": Case("every anchor passes"),
    "all_pass_whole_image": Case("the same, every mask fills the whole image", whole_image=True),
    "all_pass_plus": Case("each of 57,744 anchors passes, masks are scored", plus=True),
    "all_pass_plus_bfloat16": Case("the same from outputs in bfloat16", plus=True, dtype=torch.bfloat16),
    "lvis_all_pass": Case(
        "1203 classes, every anchor passes a threshold of 0.0001, 300 instances, result of 480 x 640",
        output_size=(480, 640),
        num_classes=1203,
        score_thresh=0.0001,
        max_detections=300,
    ),
}


def anchor_shapes(plus: bool) -> Tensor:
    """Width and height of the published models' anchors, (L, A, 2)."""
    sizes = [[s * 2 ** (i / 3) for i in range(3 if plus else 1)] for s in ANCHOR_SIZES]
    return level_shapes(sizes, [RATIOS], len(LEVELS), square=False)


def build(case: Case, device: str = "cpu", nms: InstanceNMS | None = None) -> YOLACT:
    """Return a YOLACT with the published settings for inference, of whose networks only the mask IoU head is run."""
    channels = 32
    shapes = anchor_shapes(case.plus)
    fast_nms = InstanceNMS("FastNMS", NMSOptions(iou_thresh=2.0 if case.whole_image else 0.5))  # 2: keeps equal boxes
    torch.manual_seed(0)
    model = YOLACT(
        backbone=nn.Identity(),
        protonet=YOLACTProtonet(in_channels=channels, channels=channels),
        head=YOLACTHead(in_channels=channels, num_classes=case.num_classes, num_anchors=len(shapes[0])),
        sem_seg_head=SemanticHead(in_channels=channels, num_classes=case.num_classes),
        mask_iou_head=YOLACTMaskIoUHead(num_classes=case.num_classes) if case.plus else None,
        head_in_features=["p3", "p4", "p5", "p6", "p7"],
        proto_in_feature="p3",
        proto_in_stride=8,
        anchor_shapes=shapes,
        input_size=INPUT_SIZE,
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(1.0, 1.0, 1.0),
        num_classes=case.num_classes,
        test_score_thresh=case.score_thresh,
        test_max_detections=case.max_detections,
        test_max_candidates=1000,
        test_nms=nms or fast_nms,
    )
    return model.eval().to(device)


def predictions(case: Case, device: str = "cpu") -> YOLACTPredictions:
    """Outputs for one image: boxes near their anchors or the whole image, random scores, coefficients, prototypes."""
    rng = torch.Generator().manual_seed(0)
    anchors = grid_anchors(LEVELS, (anchor_shapes(case.plus) / INPUT_SIZE).float())
    passes = torch.rand(len(anchors), generator=rng) <= case.passing
    logits = torch.randn(1, len(anchors), case.num_classes + 1, generator=rng)
    logits[:, :, 0] = torch.where(passes, -100.0, 100.0)
    deltas = torch.randn(1, len(anchors), 4, generator=rng)
    coefficients = torch.rand(1, len(anchors), PROTOTYPES[0], generator=rng)
    if case.whole_image:
        whole = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand_as(anchors)
        deltas = build(case).box_transform.get_deltas(anchors, whole)[None]
    prototypes = torch.rand(1, *PROTOTYPES, generator=rng)
    outputs = [x.to(device, case.dtype) for x in (logits, deltas, coefficients, prototypes)]
    return YOLACTPredictions(*outputs, anchors.to(device))


def measure(case: Case, device: str = "cpu", runs: int = 1) -> dict[str, object]:
    """Return the peak memory (MB), the median seconds of each stage, and the number of instances."""
    model, outputs = build(case, device), predictions(case, device)

    def literal(found: Instances) -> Tensor:
        return whole_image_masks(found, outputs.prototypes[0], case)

    sizes = (model.input_size, case.output_size)
    return {"what": case.what, **postprocessing.measure(model, outputs, *sizes, literal, device=device, runs=runs)}


def whole_image_masks(found: Instances, prototypes: Tensor, case: Case, chunk: int = 10) -> Tensor:
    """Return full-size masks for comparison: whole images interpolated, ``chunk`` at a time."""
    masks = torch.zeros(len(found), *case.output_size, dtype=torch.bool, device=prototypes.device)
    boxes = found.pred_boxes.tensor / frame_of(found.image_size, found.pred_boxes.tensor)
    for rows, out in zip(torch.arange(len(found), device=masks.device).split(chunk), masks.split(chunk), strict=True):
        x = mask_probabilities(found.mask_coefficients[rows], prototypes, boxes[rows])[None]
        out.copy_(F.interpolate(x, case.output_size, mode="bilinear", align_corners=False)[0] > 0.5)
    return masks


if __name__ == "__main__":
    with reported_errors():
        postprocessing.main("yolact_memory", __doc__, {name: partial(measure, case) for name, case in CASES.items()})
