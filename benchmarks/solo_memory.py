"""Measure memory and time of SOLO's decoding, NMS and full-size masks on synthetic outputs of the networks.

python -m benchmarks.solo_memory [--device cuda] [--runs 5] [--write]

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
from centermask_solo.modeling.solo import HEADS, SOLO, DecoupledPredictions, SOLOPredictions
from centermask_solo.modeling.solo.decode import cell_probabilities
from centermask_solo.modeling.solo.predictions import Predictions
from centermask_solo.utils.errors import reported_errors

NUM_GRIDS = (40, 36, 24, 16, 12)
STRIDES = (8, 8, 16, 32, 32)
IN_STRIDES = (4, 8, 16, 32, 64)
RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
IMAGE_SIZE = (800, 1333)
PADDED = (800, 1344)


class Case(NamedTuple):
    """A set of synthetic outputs: the head, and which share of the (cell, class) pairs passes the threshold."""

    what: str
    head: str
    passing: float = 1.0
    dtype: torch.dtype = torch.float32


CASES = {
    "typical": Case("0.1 % of the pairs pass", "plain", passing=0.001),
    "all_pass": Case("every cell and class passes, every mask covers the whole image", "plain"),
    "all_pass_bfloat16": Case("the same from outputs in bfloat16", "plain", dtype=torch.bfloat16),
    "decoupled_typical": Case("decoupled: 0.1 % of the pairs pass", "decoupled", passing=0.001),
    "decoupled_all_pass": Case("decoupled: every cell and class passes, every mask covers the image", "decoupled"),
    "decoupled_all_pass_bfloat16": Case("the same from outputs in bfloat16", "decoupled", dtype=torch.bfloat16),
}


def build(case: Case, device: str = "cpu") -> SOLO:
    """Return a SOLO with the published settings, whose networks are never run."""
    head = HEADS[case.head](
        in_channels=32,
        in_strides=IN_STRIDES,
        level_strides=STRIDES,
        num_grids=NUM_GRIDS,
        num_classes=80,
        channels=32,
        num_convs=1,
    )
    model = SOLO(
        backbone=nn.Identity(),
        head=head,
        instance_in_features=["p2", "p3", "p4", "p5", "p6"],
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(1.0, 1.0, 1.0),
        num_classes=80,
        scale_ranges=RANGES,
        test_nms=InstanceNMS("MatrixNMS"),
        test_score_thresh=0.1,
        test_max_candidates=500,
    )
    return model.eval().to(device)


def predictions(case: Case, device: str = "cpu") -> Predictions:
    """Return outputs for one image: random class scores, and masks that cover most of the image."""
    rng = torch.Generator().manual_seed(0)

    def sizes(divisor: int) -> list[tuple[int, int]]:
        return [(PADDED[0] * divisor // s, PADDED[1] * divisor // s) for s in STRIDES]

    def maps(channels: int, size: tuple[int, int]) -> Tensor:
        return torch.rand(1, channels, *size, generator=rng).to(device, case.dtype)

    class_logits = []
    for side in NUM_GRIDS:
        scores = 0.1 + 0.8 * torch.rand(1, 80, side, side, generator=rng)
        passes = torch.rand(scores.shape, generator=rng) <= case.passing
        class_logits.append(torch.where(passes, scores, 0.05).logit().to(device, case.dtype))
    if case.head == "plain":
        kernels = [torch.randn(s * s, 256, 1, 1, generator=rng).to(device) / 20 for s in NUM_GRIDS]
        features = [maps(256, size) for size in sizes(1)]
        return SOLOPredictions(class_logits, features, kernels, [torch.ones(s * s).to(device) for s in NUM_GRIDS])
    columns, rows = ([1 + 2 * maps(s, x) for s, x in zip(NUM_GRIDS, sizes(2), strict=True)] for _ in range(2))
    return DecoupledPredictions(class_logits, columns, rows)


def measure(case: Case, device: str = "cpu", runs: int = 1) -> dict[str, object]:
    """Return the peak memory (MB), the median seconds of each stage, and the number of instances."""
    model, outputs = build(case, device), predictions(case, device)

    def literal(found: Instances) -> Tensor:
        return whole_image_masks(found.cells, outputs)

    sizes = (IMAGE_SIZE, IMAGE_SIZE)
    return {"what": case.what, **postprocessing.measure(model, outputs, *sizes, literal, device=device, runs=runs)}


def whole_image_masks(cells: Tensor, outputs: Predictions, chunk: int = 10) -> Tensor:
    """Return full-size masks for comparison: whole images interpolated twice, ``chunk`` at a time."""
    size = (PADDED[0] // 4, PADDED[1] // 4)
    masks = torch.zeros(len(cells), *IMAGE_SIZE, dtype=torch.bool, device=cells.device)
    probabilities_of = cell_probabilities(outputs, 0, size)
    for rows, out in zip(cells.split(chunk), masks.split(chunk), strict=True):
        x = probabilities_of(rows)[0].unflatten(1, size)[None]
        x = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
        out.copy_(x[0, :, : IMAGE_SIZE[0], : IMAGE_SIZE[1]] > 0.5)
    return masks


if __name__ == "__main__":
    with reported_errors():
        postprocessing.main("solo_memory", __doc__, {name: partial(measure, case) for name, case in CASES.items()})
