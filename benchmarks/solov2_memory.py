"""Measure memory and time of SOLOv2's decoding, NMS and full-size masks on synthetic outputs of the networks.

python -m benchmarks.solov2_memory [--device cuda] [--runs 5] [--write]

Each case is an image of at most 800 x 1333 pixels (800 x 1344 after padding). The outputs of the networks do not count;
the full-size masks, the result, do: 107 MB for 100 of them.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.structures import Instances
from torch import Tensor, nn

from benchmarks import postprocessing
from centermask_solo.modeling.instance_nms import InstanceNMS
from centermask_solo.modeling.solov2 import SOLOv2
from centermask_solo.modeling.solov2.heads import SOLOv2InstanceHead, SOLOv2MaskHead
from centermask_solo.modeling.solov2.meta_arch import SOLOv2Predictions
from centermask_solo.utils.errors import reported_errors

NUM_GRIDS = (40, 36, 24, 16, 12)
STRIDES = (8, 8, 16, 32, 32)
KERNEL_LENGTH = 256


class Case(NamedTuple):
    """A set of synthetic outputs and settings.

    Attributes:
        what: Description.
        passing: Share of the (cell, class) pairs with a class probability above the threshold, before point NMS.
        radius: Radius of the round masks relative to the image's height; above 2 each covers the whole image.
        num_classes: K.
        score_thresh: Class probability that a candidate must exceed.
        max_detections: Maximum number of instances per image.
        image_size: (height, width) in the network's input.
        output_size: (height, width) of the result.
        dtype: Type of the networks' outputs.
    """

    what: str
    passing: float = 1.0
    radius: float = 0.1
    num_classes: int = 80
    score_thresh: float = 0.1
    max_detections: int = 100
    image_size: tuple[int, int] = (800, 1333)
    output_size: tuple[int, int] = (800, 1333)
    dtype: torch.dtype = torch.float32


CASES = {
    "typical": Case("0.1 % of the pairs pass, objects of a fifth of the height", passing=0.001),
    "typical_640x480": Case("the same, result of 480 x 640", 0.001, image_size=(800, 1067), output_size=(480, 640)),
    "all_pass": Case("every cell and class passes"),
    "all_pass_whole_image": Case("every cell and class passes, every mask covers the whole image", radius=3.0),
    "all_pass_bfloat16": Case("the same from outputs in bfloat16", radius=3.0, dtype=torch.bfloat16),
    "lvis_all_pass": Case(
        "1230 classes, threshold 0: 4.8 million pairs pass, every mask covers the image", 1.0, 3.0, 1230, 0.0
    ),
}


def build(case: Case, device: str = "cpu", nms: InstanceNMS | None = None) -> SOLOv2:
    """Return a SOLOv2 with the published settings for inference, whose networks are never run."""
    channels = 32
    head = SOLOv2InstanceHead(
        in_channels=channels,
        in_strides=(4, 8, 16, 32, 64),
        level_strides=STRIDES,
        num_grids=NUM_GRIDS,
        num_classes=case.num_classes,
        kernel_length=KERNEL_LENGTH,
        channels=channels,
        num_convs=1,
    )
    model = SOLOv2(
        backbone=nn.Identity(),
        instance_head=head,
        mask_head=SOLOv2MaskHead(in_channels=channels, in_strides=(4, 8, 16, 32), channels=channels),
        instance_in_features=["p2", "p3", "p4", "p5", "p6"],
        mask_in_features=["p2", "p3", "p4", "p5"],
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(1.0, 1.0, 1.0),
        num_classes=case.num_classes,
        scale_ranges=((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
        test_nms=nms or InstanceNMS("MatrixNMS"),
        test_score_thresh=case.score_thresh,
        test_max_candidates=500,
        test_max_detections=case.max_detections,
    )
    return model.eval().to(device)


def predictions(case: Case, device: str = "cpu") -> SOLOv2Predictions:
    """Outputs for one image: round masks around the centers of their cells, of two or more sizes; random scores."""
    rng = torch.Generator().manual_seed(0)
    height, width = (-(-n // 32) * 8 for n in case.image_size)
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / height, indexing="ij")
    features = torch.zeros(1, KERNEL_LENGTH, height, width)
    features[0, :4] = torch.stack((torch.ones_like(x), x, y, x * x + y * y))  # kernels can express circles with these
    class_logits, kernels = [], []
    for side in NUM_GRIDS:
        probability = case.score_thresh + (0.9 - case.score_thresh) * torch.rand(
            1, case.num_classes, side, side, generator=rng
        )
        passes = torch.rand(probability.shape, generator=rng) <= case.passing
        class_logits.append(torch.where(passes, probability, case.score_thresh / 2).logit())
        cy, cx = torch.meshgrid(*((torch.arange(side) + 0.5) / side for _ in range(2)), indexing="ij")
        cx = cx * width / height
        radius = case.radius * (0.5 + torch.rand(side, side, generator=rng))
        kernel = torch.zeros(1, KERNEL_LENGTH, side, side)
        kernel[0, :4] = torch.stack((radius**2 - cx**2 - cy**2, 2 * cx, 2 * cy, -torch.ones_like(cx)))
        kernels.append(kernel * 3 / radius**2)
    return SOLOv2Predictions(
        [v.to(device, case.dtype) for v in class_logits],
        [v.to(device, case.dtype) for v in kernels],
        features.to(device, case.dtype),
    )


def measure(case: Case, device: str = "cpu", runs: int = 1) -> dict[str, object]:
    """Return the peak memory (MB), the median seconds of each stage, and the number of instances."""
    model, outputs = build(case, device), predictions(case, device)

    def literal(found: Instances) -> Tensor:
        return whole_image_masks(found.kernels, outputs.mask_features[0], case)

    sizes = (case.image_size, case.output_size)
    return {"what": case.what, **postprocessing.measure(model, outputs, *sizes, literal, device=device, runs=runs)}


def whole_image_masks(kernels: Tensor, mask_features: Tensor, case: Case, chunk: int = 10) -> Tensor:
    """Return full-size masks for comparison: whole images interpolated twice, ``chunk`` at a time."""
    masks = torch.zeros(len(kernels), *case.output_size, dtype=torch.bool, device=kernels.device)
    features = mask_features.float()
    for rows, out in zip(kernels.split(chunk), masks.split(chunk), strict=True):
        x = torch.einsum("me,ehw->mhw", rows, features).sigmoid()[None]
        x = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
        x = x[..., : case.image_size[0], : case.image_size[1]]
        out.copy_(F.interpolate(x, case.output_size, mode="bilinear", align_corners=False)[0] > 0.5)
    return masks


if __name__ == "__main__":
    with reported_errors():
        postprocessing.main("solov2_memory", __doc__, {name: partial(measure, case) for name, case in CASES.items()})
