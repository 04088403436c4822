"""RoI pooling with CenterMask's scale-adaptive choice of the pyramid level."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels, convert_boxes_to_pooler_format
from detectron2.structures import Boxes
from torch import Tensor

from ...ops.boxes import assign_levels_by_area_ratio
from ...ops.host_reads import avoids_host_reads
from ...ops.precision import at_least_float32
from ...utils.errors import ConfigError


class AdaptiveROIPooler(ROIPooler):
    """Detectron2's pooler with the level of a box chosen by its share of the image instead of its size.

    Takes the arguments of ``ROIPooler``; ``canonical_box_size`` and ``canonical_level`` have no effect. No parameters.
    """

    def forward(self, x: list[Tensor], boxes: list[Boxes], image_sizes: list[tuple[int, int]]) -> Tensor:
        """Return the pooled features (R, C, h, w) of the boxes of all images, in order.

        Args:
            x: L x (N, C, Hi, Wi), finest first.
            boxes: For each image M boxes in the frame of the network's input, not necessarily clipped.
            image_sizes: (height, width) of each image in the same frame, before padding.

        Source: CenterMask, section 3.2; :func:`~centermask_solo.ops.boxes.assign_levels_by_area_ratio`.
        """
        rois = convert_boxes_to_pooler_format(boxes)
        levels = self.assign_levels(boxes, image_sizes)
        order = levels.argsort(stable=True)
        counts = [(levels == level).sum() for level in range(self.min_level, self.max_level + 1)]
        rows_of_levels = order.split(torch.stack(counts).tolist())  # one synchronization for all levels
        output = x[0].new_zeros((len(rois), x[0].shape[1], *self.output_size))
        for features, pooler, rows in zip(x, self.level_poolers, rows_of_levels, strict=True):
            output.index_put_((rows,), pooler(features, rois[rows]))
        return output

    def assign_levels(self, boxes: list[Boxes], image_sizes: list[tuple[int, int]]) -> Tensor:
        """Return the pyramid level of each box of all images, (R,) int64; arguments as in :meth:`forward`."""
        areas = [b.area() for b in boxes]
        image_areas = [a.new_full((len(a),), float(h * w)) for a, (h, w) in zip(areas, image_sizes, strict=True)]
        return assign_levels_by_area_ratio(torch.cat(areas), torch.cat(image_areas), self.min_level, self.max_level)


def assign_levels_of_slots(pooler: ROIPooler, boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Return the index of the level in ``pooler`` of each box, (N, K) int64; arguments as in :func:`pool`."""
    if not isinstance(pooler, AdaptiveROIPooler):
        sizes = (pooler.canonical_box_size, pooler.canonical_level)
        levels = assign_boxes_to_levels([Boxes(boxes.flatten(0, 1))], pooler.min_level, pooler.max_level, *sizes)
        return levels.view(boxes.shape[:2])
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    image_areas = image_sizes.to(areas.dtype).prod(dim=1, keepdim=True).expand_as(areas)
    return assign_levels_by_area_ratio(areas, image_areas, pooler.min_level, pooler.max_level) - pooler.min_level


def _rois_of_slots(pooler: ROIPooler, boxes: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return RoIs and levels for :func:`_pool_on_all_levels`; arguments as in :func:`pool`."""
    image = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    rois = torch.cat([image[:, None, None].expand(-1, boxes.shape[1], -1), boxes], dim=2).flatten(0, 1)
    return rois, assign_levels_of_slots(pooler, boxes, image_sizes).flatten()


def _rois_of_lists(pooler: ROIPooler, boxes: list[Boxes], image_sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return RoIs and levels for :func:`_pool_on_all_levels`; arguments as in :func:`pool`."""
    parts = [torch.cat([x.tensor.new_full((len(x), 1), i), x.tensor], dim=1) for i, x in enumerate(boxes)]
    if isinstance(pooler, AdaptiveROIPooler):
        return torch.cat(parts), pooler.assign_levels(boxes, image_sizes) - pooler.min_level
    sizes = (pooler.canonical_box_size, pooler.canonical_level)
    return torch.cat(parts), assign_boxes_to_levels(boxes, pooler.min_level, pooler.max_level, *sizes)


def _pool_on_all_levels(pooler: ROIPooler, x: list[Tensor], rois: Tensor, levels: Tensor) -> Tensor:
    """Return what a pooler does, (R, C, h, w), without the host knowing how many boxes each level has.

    Every level pools all boxes, where those of other levels have no area, which takes no time.

    Args:
        pooler: Either kind of :func:`build_roi_pooler`.
        x: L x (N, C, Hi, Wi), finest first.
        rois: (R, 5) float, index of the image and x0, y0, x1, y1 in the frame of the network's input.
        levels: (R,) int64, index of the level of each RoI in ``x``.
    """
    levels = levels[:, None]
    elsewhere = torch.cat([rois[:, :1], torch.zeros_like(rois[:, 1:])], dim=1)
    output: Tensor | None = None
    for level, (features, level_pooler) in enumerate(zip(x, pooler.level_poolers, strict=True)):
        is_here = levels == level
        pooled = level_pooler(features, torch.where(is_here, rois, elsewhere))
        output = pooled if output is None else torch.where(is_here[:, :, None, None], pooled, output)
    assert output is not None
    return output


_POOLERS = {"ratio": AdaptiveROIPooler, "area": ROIPooler}


def build_roi_pooler(
    node: CfgNode, in_features: list[str], input_shape: dict[str, ShapeSpec]
) -> tuple[ROIPooler, ShapeSpec]:
    """Return the pooler that the options of a head select, and the shape of its output.

    Args:
        node: ``MODEL.ROI_MASK_HEAD`` or a node with the same options for pooling.
        in_features: Names of the levels to pool from, finest first.
        input_shape: Shapes of the backbone's features by name.

    Raises:
        ConfigError: The level assignment or a level is unknown.
    """
    if node.LEVEL_ASSIGNMENT not in _POOLERS:
        raise ConfigError(f'LEVEL_ASSIGNMENT of an RoI head must be "ratio" or "area", not {node.LEVEL_ASSIGNMENT!r}')
    missing = [f for f in in_features if f not in input_shape]
    if missing:
        raise ConfigError(
            f"IN_FEATURES of an RoI head names {', '.join(missing)}, but the backbone has {', '.join(input_shape)}"
        )
    scales = [1.0 / input_shape[f].stride for f in in_features]
    side = node.POOLER_RESOLUTION
    pooler = _POOLERS[node.LEVEL_ASSIGNMENT](side, scales, node.POOLER_SAMPLING_RATIO, node.POOLER_TYPE)
    return pooler, ShapeSpec(channels=input_shape[in_features[0]].channels, height=side, width=side)


def pool(
    pooler: ROIPooler,
    in_features: list[str],
    features: dict[str, Tensor],
    boxes: list[Boxes] | Tensor,
    image_sizes: list[tuple[int, int]] | Tensor,
) -> Tensor:
    """Return the pooled features (R, C, h, w) of the boxes of all images, in at least float32.

    Half precision cannot represent the coordinates of large images.

    Args:
        pooler: Either kind of :func:`build_roi_pooler`.
        in_features: Names of the levels of ``pooler``.
        features: Features of the backbone by name.
        boxes: As in :meth:`AdaptiveROIPooler.forward`; or (N, K, 4) float, as many of each image.
        image_sizes: As there; or (N, 2) int64.
    """
    maps = [at_least_float32(features[f]) for f in in_features]
    if isinstance(boxes, Tensor):
        assert isinstance(image_sizes, Tensor)
        return _pool_on_all_levels(pooler, maps, *_rois_of_slots(pooler, boxes, image_sizes))
    assert not isinstance(image_sizes, Tensor)
    if avoids_host_reads(maps[0].device):
        return _pool_on_all_levels(pooler, maps, *_rois_of_lists(pooler, boxes, image_sizes))
    if isinstance(pooler, AdaptiveROIPooler):
        return pooler(maps, boxes, image_sizes)
    return pooler(maps, boxes)
