"""RoI pooling with CenterMask's scale-adaptive choice of the pyramid level."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler, convert_boxes_to_pooler_format
from detectron2.structures import Boxes
from torch import Tensor

from ...ops.boxes import assign_levels_by_area_ratio
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
    boxes: list[Boxes],
    image_sizes: list[tuple[int, int]],
) -> Tensor:
    """Return the pooled features (R, C, h, w) of the boxes of all images, in at least float32.

    Half precision cannot represent the coordinates of large images.

    Args:
        pooler: Either kind of :func:`build_roi_pooler`.
        in_features: Names of the levels of ``pooler``.
        features: Features of the backbone by name.
        boxes: As in :meth:`AdaptiveROIPooler.forward`.
        image_sizes: As in :meth:`AdaptiveROIPooler.forward`.
    """
    maps = [at_least_float32(features[f]) for f in in_features]
    if isinstance(pooler, AdaptiveROIPooler):
        return pooler(maps, boxes, image_sizes)
    return pooler(maps, boxes)
