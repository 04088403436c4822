"""The training targets of SOLO: the class and the mask of each cell.

All instances, levels and cells of a batch are processed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..ground_truth import check_class_range, class_range
from ..solov2.targets import assign_cells, classes_of, count_groups, images_of_instances, last_claims
from .ground_truth import GroundTruth


class SOLOTargets(NamedTuple):
    """The training targets of a batch.

    A cell that several instances claim on a level has the class and the mask of the last of them.

    Attributes:
        classes: L x (N, S, S) int64; class of each cell, K for background.
        num_positive: Number of foreground cells in the batch, R.
        cells: (R,) int64; foreground cells, ordered by level and image, counted row by row within the level.
        mask_rows: (R,) int64; row of the level's ``masks`` of each of them.
        counts: L x N; number of foreground cells of each level and image.
        masks: L x (M, h, w) bool; reduced masks at the size of the level's mask maps.
    """

    classes: list[Tensor]
    num_positive: int
    cells: Tensor
    mask_rows: Tensor
    counts: list[list[int]]
    masks: list[Tensor]


def build_targets(
    ground_truth: GroundTruth,
    *,
    input_size: tuple[int, int],
    num_classes: int,
    num_grids: Sequence[int],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float,
) -> SOLOTargets:
    """Return the targets of a batch of N images, with three reads on the host.

    Args:
        ground_truth: Boxes, classes and masks of the batch.
        input_size: (T_h, T_w), the padded input that every grid spans.
        num_classes: K.
        num_grids: Cells per side S of each level.
        scale_ranges: Smallest and largest sqrt(box area) of each level in input pixels, both inclusive.
        sigma: Side of the center region relative to the box.

    Raises:
        DataError: A class is outside 0..K-1.
    """
    gt_classes = torch.cat(ground_truth.classes)
    instances, cells = assign_cells(
        torch.cat(ground_truth.boxes),
        ground_truth.areas,
        ground_truth.moments,
        input_size=input_size,
        num_grids=num_grids,
        scale_ranges=scale_ranges,
        sigma=sigma,
    )

    # Positions run through the levels, their images, and the cells of each.
    num_images, num_levels = len(ground_truth.boxes), len(num_grids)
    sizes = torch.tensor(num_grids, device=cells.device).square()
    ends = sizes.cumsum(0)
    levels = torch.bucketize(cells, ends, right=True)
    within = cells - (ends - sizes)[levels]
    images = images_of_instances(ground_truth.boxes)[instances]
    positions = num_images * (ends - sizes)[levels] + images * sizes[levels] + within
    num_positions = [num_images * s * s for s in num_grids]
    owners = last_claims(instances, positions, sum(num_positions))

    found = (owners >= 0).nonzero().flatten()
    levels = torch.bucketize(found, num_images * ends, right=True)
    in_level = found - num_images * (ends - sizes)[levels]
    groups = levels * num_images + in_level // sizes[levels]
    figures = (class_range(gt_classes), count_groups(groups, num_levels * num_images))
    lowest, highest, *counts = torch.cat(figures).tolist()
    check_class_range(lowest, highest, num_classes, "MODEL.SOLO.NUM_CLASSES")
    classes = classes_of(owners, gt_classes, num_classes).split(num_positions)
    return SOLOTargets(
        classes=[x.view(num_images, s, s) for x, s in zip(classes, num_grids, strict=True)],
        num_positive=len(found),
        cells=in_level % sizes[levels],
        mask_rows=ground_truth.rows[levels, owners[found]],
        counts=[counts[i * num_images : (i + 1) * num_images] for i in range(num_levels)],
        masks=ground_truth.masks,
    )
