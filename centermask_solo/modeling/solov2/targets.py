"""The training targets of SOLOv2: which cells belong to which instances, and the target masks of their kernels.

All instances, levels and cells of a batch are processed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.levels import split_levels
from ..ground_truth import check_class_range, class_range, rows_on
from .ground_truth import MASK_STRIDE, GroundTruth


class SOLOv2Targets(NamedTuple):
    """The training targets of a batch.

    A cell that two instances claim has two dice terms, but only the class of the later one.

    Attributes:
        classes: L x (N, S, S) int64; class of each cell, K for background.
        num_positive: Number of foreground cells in the batch; each counts once.
        term_images: (R,) int64, ascending; image of each dice term.
        term_cells: (R,) int64; cell of each dice term, counted through all levels in order and row by row within one.
        term_instances: (R,) int64; row of ``masks`` of each dice term.
        terms_per_image: Number of dice terms of each of the N images.
        masks: (M, T_h / 4, T_w / 4) bool; reduced masks of the batch's instances, image by image.
    """

    classes: list[Tensor]
    num_positive: int
    term_images: Tensor
    term_cells: Tensor
    term_instances: Tensor
    terms_per_image: list[int]
    masks: Tensor


def _cell(numerators: Tensor, denominators: Tensor, num_grids: Tensor) -> Tensor:
    """Return floor(numerator / denominator * S), (M, L) int64, for positions (M,) as fractions of the map's side.

    Numerator and denominator are separate so that a position exactly on the border of two cells is not rounded into
    the wrong one: products of integers below 2^53 are exact, and so is the floor of their quotient.
    """
    return (numerators[:, None] * num_grids / denominators[:, None]).floor().long()


def levels_of_boxes(boxes: Tensor, scale_ranges: Sequence[tuple[float, float]]) -> Tensor:
    """Return the levels of each box, (M, L) bool: those whose range contains the square root of its area.

    Args:
        boxes: (M, 4) float, x0 y0 x1 y1 in input pixels.
        scale_ranges: Smallest and largest sqrt(box area) of each level in input pixels, both inclusive.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).double().prod(1, keepdim=True)
    ranges = torch.tensor(scale_ranges, dtype=torch.float64, device=boxes.device)
    return (ranges[:, 0].square() <= areas) & (areas <= ranges[:, 1].square())


def assign_cells(
    boxes: Tensor,
    areas: Tensor,
    moments: Tensor,
    input_size: tuple[int, int],
    num_grids: Sequence[int],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float,
) -> tuple[Tensor, Tensor]:
    """Return the cells that each instance claims: those around its center of mass, at most 3 x 3 on each level.

    Args:
        boxes: (M, 4) float, x0 y0 x1 y1 in input pixels.
        areas: (M,) int64, areas of the masks; an instance with an empty mask claims nothing.
        moments: (M, 2) int64, sums of the x and y indices of each mask's pixels.
        input_size: (T_h, T_w), the padded input that every grid spans.
        num_grids: Cells per side S of each level.
        scale_ranges: Smallest and largest sqrt(box area) of each level in input pixels, both inclusive.
        sigma: Side of the center region relative to the box.

    Returns:
        Two (R,) int64 tensors, ascending by instance: the instance and the cell of each claim. Cells count through all
        levels in order, row by row within one.

    Source: SOLO (arXiv 1912.04488), section 3.3.1.
    """
    device = boxes.device
    sizes = (boxes[:, 2:] - boxes[:, :2]).double()
    on_level = levels_of_boxes(boxes, scale_ranges) & (areas > 0)[:, None]

    # Columns and rows: the center cell and its neighbors, as far as the center region reaches.
    grids = torch.tensor(num_grids, device=device)
    steps = torch.arange(-1, 2, device=device)
    weights = areas.clamp(min=1)
    axes = []
    for axis, side in enumerate((input_size[1], input_size[0])):  # x, then y
        half = 0.5 * sigma * sizes[:, axis] * weights
        moment, denominator = moments[:, axis].double(), (weights * side).double()
        center = _cell(moment, denominator, grids)
        first = _cell(moment - half, denominator, grids)
        last = _cell(moment + half, denominator, grids)
        cells = center[..., None] + steps  # (M, L, 3)
        inside = (cells >= first[..., None]) & (cells <= last[..., None]) & (cells >= 0) & (cells < grids[:, None])
        axes.append((cells, inside))
    (columns, in_columns), (rows, in_rows) = axes

    # Claims: every combination of level, row and column.
    claimed = on_level[..., None, None] & in_rows[..., None] & in_columns[..., None, :]  # (M, L, 3, 3)
    offsets = grids.square().cumsum(0) - grids.square()
    cells = offsets[:, None, None] + rows[..., None] * grids[:, None, None] + columns[..., None, :]
    instance, level, row, column = claimed.nonzero(as_tuple=True)
    return instance, cells[instance, level, row, column]


def last_claims(instances: Tensor, positions: Tensor, num_positions: int) -> Tensor:
    """Return the last instance that claims each position, (num_positions,) int64, -1 where nothing does.

    Args:
        instances: (R,) int64, indices in the order in which the instances are drawn.
        positions: (R,) int64, position that each of them claims.
        num_positions: Number of positions.
    """
    owners = torch.full((num_positions,), -1, device=positions.device)
    return owners.scatter_reduce_(0, positions, instances, "amax")  # the last in order has the largest index


def classes_of(owners: Tensor, gt_classes: Tensor, background: int) -> Tensor:
    """Return the class of each position, int64, from the instance that owns it, -1 for none: then ``background``."""
    return torch.cat((gt_classes, gt_classes.new_full((1,), background)))[owners]  # -1 is the entry at the end


def count_groups(groups: Tensor, num_groups: int) -> Tensor:
    """Return how often each group occurs in ``groups`` (R,) int64, (num_groups,) int64; ``bincount`` would wait."""
    return groups.new_zeros(num_groups).scatter_add_(0, groups, torch.ones_like(groups))


def images_of_instances(boxes: Sequence[Tensor]) -> Tensor:
    """Return the image of each instance of a batch, (M,) int64, from the boxes of each image."""
    return rows_on(boxes[0].device, [i for i, x in enumerate(boxes) for _ in range(len(x))])


def build_targets(
    ground_truth: GroundTruth,
    *,
    num_classes: int,
    num_grids: Sequence[int],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float,
) -> SOLOv2Targets:
    """Return the targets of a batch of N images, with two reads on the host.

    Args:
        ground_truth: Boxes, classes and masks of the batch.
        num_classes: K.
        num_grids: Cells per side S of each level.
        scale_ranges: Smallest and largest sqrt(box area) of each level in input pixels, both inclusive.
        sigma: Side of the center region relative to the box.

    Raises:
        DataError: A class is outside 0..K-1.
    """
    gt_classes, masks = torch.cat(ground_truth.classes), ground_truth.masks.reduced
    num_images, num_cells = len(ground_truth.boxes), sum(s * s for s in num_grids)
    instances, cells = assign_cells(
        torch.cat(ground_truth.boxes),
        ground_truth.masks.areas,
        ground_truth.masks.moments,
        input_size=(masks.shape[1] * MASK_STRIDE, masks.shape[2] * MASK_STRIDE),
        num_grids=num_grids,
        scale_ranges=scale_ranges,
        sigma=sigma,
    )
    images = images_of_instances(ground_truth.boxes)[instances]
    owners = last_claims(instances, images * num_cells + cells, num_images * num_cells)
    cell_classes = classes_of(owners, gt_classes, num_classes)

    # One transfer to the host for all figures.
    figures = (class_range(gt_classes), (owners >= 0).sum()[None], count_groups(images, num_images))
    lowest, highest, num_positive, *terms_per_image = torch.cat(figures).tolist()
    check_class_range(lowest, highest, num_classes, "MODEL.SOLOV2.NUM_CLASSES")
    levels = split_levels(cell_classes.view(num_images, num_cells), [(s, s) for s in num_grids])
    return SOLOv2Targets(
        classes=[x.reshape(num_images, s, s) for x, s in zip(levels, num_grids, strict=True)],
        num_positive=num_positive,
        term_images=images,
        term_cells=cells,
        term_instances=instances,
        terms_per_image=terms_per_image,
        masks=masks,
    )
