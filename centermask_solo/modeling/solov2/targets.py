"""The training targets of SOLOv2: which cells stand for which instances, and the masks that their kernels should give.

Everything is computed once for each instance and then for all instances, levels and cells of a batch together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MASK_STRIDE = 4  # input pixels of one pixel of the mask features


class SOLOv2Targets(NamedTuple):
    """What a batch should be taught.

    A cell that two instances claim has two dice terms, though it can have the class of the later one alone.

    Attributes:
        classes: L x (N, S, S) int64; the class of each cell, K for background.
        num_positive: cells of the batch that are not background; each counts once.
        term_images: (R,) int64, ascending; the image of each dice term.
        term_cells: (R,) int64; its cell, counted through all levels in order and row by row within one.
        term_instances: (R,) int64; its row of ``masks``.
        terms_per_image: N numbers; how many terms each image has.
        masks: (M, T_h / 4, T_w / 4) bool; the reduced masks of the batch's instances, image by image.
    """

    classes: list[Tensor]
    num_positive: int
    term_images: Tensor
    term_cells: Tensor
    term_instances: Tensor
    terms_per_image: list[int]
    masks: Tensor


class MaskSummary(NamedTuple):
    """What the targets need of the masks of a batch's M instances.

    Attributes:
        areas: (M,) int64, set pixels.
        moments: (M, 2) int64, the sums of the set pixels' x and y indices; divided by the area, the centre of mass.
        reduced: (M, T_h / 4, T_w / 4) bool.
    """

    areas: Tensor
    moments: Tensor
    reduced: Tensor


def summarize_masks(
    mask_chunks: Iterable[Tensor], num_instances: int, map_size: tuple[int, int], device: torch.device
) -> MaskSummary:
    """Areas, centres and reduced masks of a batch's instances, from full-size masks that need not exist together.

    Args:
        mask_chunks: (m, h, w) bool masks, each chunk at its image's own size; all images' in order.
        num_instances: M, of all images.
        map_size: height and width of the mask features, T_h / 4 and T_w / 4.
        device: of the result.
    """
    areas = torch.zeros(num_instances, dtype=torch.int64, device=device)
    moments = torch.zeros(num_instances, 2, dtype=torch.int64, device=device)
    reduced = torch.zeros(num_instances, *map_size, dtype=torch.bool, device=device)
    start = 0
    for masks in mask_chunks:
        rows = slice(start, start + len(masks))
        areas[rows], moments[rows] = _areas_and_moments(masks)
        small = reduce_masks(masks)
        reduced[rows, : small.shape[1], : small.shape[2]] = small
        start += len(masks)
    return MaskSummary(areas, moments, reduced)


def _areas_and_moments(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Areas (m,) and sums of x and y indices (m, 2), int64 and exact, of masks (m, h, w)."""
    height, width = masks.shape[-2:]
    pixels = masks.view(torch.uint8).float()  # counts of a row or column are exact below 2^24
    per_column, per_row = pixels.sum(1).long(), pixels.sum(2).long()
    x = (per_column * torch.arange(width, device=masks.device)).sum(1)
    y = (per_row * torch.arange(height, device=masks.device)).sum(1)
    return per_row.sum(1), torch.stack((x, y), dim=1)


def reduce_masks(masks: Tensor) -> Tensor:
    """The masks at a quarter of their size, as OpenCV's bilinear resize of 0/1 bytes gives them, bit for bit.

    Where both sides are multiples of 4 this sets a pixel when two of the four pixels in the middle of its 4 x 4 block
    are set. Objects of a few pixels can vanish.

    Args:
        masks: (M, h, w) bool.

    Returns:
        (M, int(h / 4 + 0.5), int(w / 4 + 0.5)) bool.

    Source: the published training code, whose resize works in fixed point: weights of 11 bits, rounded.
    """
    pixels = masks.view(torch.uint8)
    (y0, y1, wy0, wy1), (x0, x1, wx0, wx1) = (_resize_taps(n, masks.device) for n in masks.shape[-2:])

    def horizontal(rows: Tensor) -> Tensor:
        source = pixels.index_select(1, rows)
        return source.index_select(2, x0) * wx0 + source.index_select(2, x1) * wx1  # int32, 0..2048

    top = (wy0[:, None] * (horizontal(y0) >> 4)) >> 16
    bottom = (wy1[:, None] * (horizontal(y1) >> 4)) >> 16
    return ((top + bottom + 2) >> 2) > 0


def _resize_taps(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each pixel of an axis reduced by 4: its two source indices (int64) and their weights of 2048 (int32)."""
    reduced = int(size / MASK_STRIDE + 0.5)
    position = torch.arange(reduced, dtype=torch.float64, device=device) + 0.5
    position = (position * (size / max(reduced, 1)) - 0.5).float()
    first = position.floor()
    fraction = position - first
    index = first.long()
    outside = (index < 0) | (index >= size - 1)
    fraction = torch.where(outside, torch.zeros_like(fraction), fraction)
    index = index.clamp(0, max(size - 1, 0))
    weights = ((1 - fraction) * 2048).round().int(), (fraction * 2048).round().int()
    return index, (index + 1).clamp(max=max(size - 1, 0)), *weights


def _cell(numerators: Tensor, denominators: Tensor, num_grids: Tensor) -> Tensor:
    """floor(numerator / denominator * S), (M, L) int64, of positions (M,) as fractions of the side of the map.

    Numerator and denominator come separately so that a position exactly on a border of two cells is not rounded into
    the wrong one: products of integers below 2^53 are exact, and so is the floor of their quotient.
    """
    return (numerators[:, None] * num_grids / denominators[:, None]).floor().long()


def assign_cells(
    boxes: Tensor,
    areas: Tensor,
    moments: Tensor,
    input_size: tuple[int, int],
    num_grids: Sequence[int],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float,
) -> tuple[Tensor, Tensor]:
    """The cells that each instance claims: those around its centre of mass, at most 3 x 3 on each of its levels.

    Args:
        boxes: (M, 4) float, x0 y0 x1 y1 in input pixels.
        areas: (M,) int64, of the masks; an instance with an empty mask claims nothing.
        moments: (M, 2) int64, sums of the x and y indices of the mask's pixels.
        input_size: (T_h, T_w), the padded input that every grid spans.
        num_grids: cells a side S of each level.
        scale_ranges: smallest and largest sqrt(box area) of each level in input pixels, both included.
        sigma: side of the centre region relative to the box.

    Returns:
        Two (R,) int64 tensors, ascending by instance: the instance and the cell of each claim. Cells count through all
        levels in order, row by row within one.

    Source: SOLO (arXiv 1912.04488), section 3.3.1.
    """
    device = boxes.device
    sizes = (boxes[:, 2:] - boxes[:, :2]).double()
    box_areas = sizes.prod(1, keepdim=True)
    ranges = torch.tensor(scale_ranges, dtype=torch.float64, device=device)
    on_level = (ranges[:, 0].square() <= box_areas) & (box_areas <= ranges[:, 1].square()) & (areas > 0)[:, None]

    grids = torch.tensor(num_grids, device=device)
    steps = torch.arange(-1, 2, device=device)
    weights = areas.clamp(min=1)
    axes = []
    for axis, side in enumerate((input_size[1], input_size[0])):  # x, then y
        half = 0.5 * sigma * sizes[:, axis] * weights
        moment, denominator = moments[:, axis].double(), (weights * side).double()
        centre = _cell(moment, denominator, grids)
        first = _cell(moment - half, denominator, grids)
        last = _cell(moment + half, denominator, grids)
        cells = centre[..., None] + steps  # (M, L, 3): the centre cell and its neighbours
        inside = (cells >= first[..., None]) & (cells <= last[..., None]) & (cells >= 0) & (cells < grids[:, None])
        axes.append((cells, inside))
    (columns, in_columns), (rows, in_rows) = axes

    claimed = on_level[..., None, None] & in_rows[..., None] & in_columns[..., None, :]  # (M, L, 3, 3)
    offsets = grids.square().cumsum(0) - grids.square()
    cells = offsets[:, None, None] + rows[..., None] * grids[:, None, None] + columns[..., None, :]
    instance, level, row, column = claimed.nonzero(as_tuple=True)
    return instance, cells[instance, level, row, column]


def _draw_classes(
    instances: Tensor, positions: Tensor, gt_classes: Tensor, num_positions: int, background: int
) -> Tensor:
    """The class of each position, (num_positions,): instances are drawn in their order, a later one over an earlier.

    Args:
        instances: (R,) int64, rows of ``gt_classes``.
        positions: (R,) int64, what each of them claims.
        gt_classes: (M,) int64.
        num_positions: positions in all.
        background: the class of a position that nothing claims.
    """
    owners = torch.full((num_positions,), -1, device=positions.device)
    owners.scatter_reduce_(0, positions, instances, "amax")  # the last in order has the largest index
    # Index -1 is the entry at the end.
    return torch.cat((gt_classes, gt_classes.new_full((1,), background)))[owners]


def _numbers_of_batch(
    cell_classes: Tensor, term_images: Tensor, gt_classes: Tensor, num_images: int, num_classes: int
) -> tuple[int, list[int]]:
    """How many cells are positive and how many terms each image has, in one transfer to the host.

    Raises:
        ValueError: a class outside 0..K-1 (which indexing on a GPU would answer with a crash).
    """
    outside = (gt_classes < 0) | (gt_classes >= num_classes)
    positive = cell_classes != num_classes
    terms = torch.bincount(term_images, minlength=num_images)
    num_positive, num_outside, *terms_per_image = torch.cat((positive.sum()[None], outside.sum()[None], terms)).tolist()
    if num_outside:
        raise ValueError(
            f"An instance has class {gt_classes[outside][0].item()}, but MODEL.SOLOV2.NUM_CLASSES is {num_classes}: "
            f"set it to the number of classes of the dataset, whose instances then have 0..{num_classes - 1}."
        )
    return num_positive, terms_per_image


def build_targets(
    summary: MaskSummary,
    boxes: Sequence[Tensor],
    gt_classes: Sequence[Tensor],
    *,
    num_classes: int,
    num_grids: Sequence[int],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float,
) -> SOLOv2Targets:
    """The targets of a batch of N images.

    Args:
        summary: of the batch's masks, image by image, from :func:`summarize_masks`.
        boxes: N x (M, 4) float, x0 y0 x1 y1 in input pixels.
        gt_classes: N x (M,) int64, 0..K-1.
        num_classes: K.
        num_grids: cells a side S of each level.
        scale_ranges: smallest and largest sqrt(box area) of each level in input pixels, both included.
        sigma: side of the centre region relative to the box.

    Raises:
        ValueError: a class outside 0..K-1.
    """
    masks, classes = summary.reduced, torch.cat(list(gt_classes))
    device = masks.device
    num_images, num_cells = len(boxes), sum(s * s for s in num_grids)
    instances, cells = assign_cells(
        torch.cat(list(boxes)),
        summary.areas,
        summary.moments,
        input_size=(masks.shape[1] * MASK_STRIDE, masks.shape[2] * MASK_STRIDE),
        num_grids=num_grids,
        scale_ranges=scale_ranges,
        sigma=sigma,
    )
    num_instances = torch.tensor([len(b) for b in boxes], device=device)
    image_of_instance = torch.arange(num_images, device=device).repeat_interleave(num_instances, output_size=len(masks))
    images = image_of_instance[instances]
    cell_classes = _draw_classes(instances, images * num_cells + cells, classes, num_images * num_cells, num_classes)

    num_positive, terms_per_image = _numbers_of_batch(cell_classes, images, classes, num_images, num_classes)
    levels = cell_classes.view(num_images, num_cells).split([s * s for s in num_grids], dim=1)
    return SOLOv2Targets(
        classes=[x.reshape(num_images, s, s) for x, s in zip(levels, num_grids, strict=True)],
        num_positive=num_positive,
        term_images=images,
        term_cells=cells,
        term_instances=instances,
        terms_per_image=terms_per_image,
        masks=masks,
    )
