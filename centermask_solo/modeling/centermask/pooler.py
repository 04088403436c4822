"""RoI pooling with CenterMask's scale-adaptive choice of the pyramid level."""

from __future__ import annotations

import torch
from detectron2.modeling.poolers import ROIPooler, convert_boxes_to_pooler_format
from detectron2.structures import Boxes
from torch import Tensor

from ...ops.boxes import assign_levels_by_area_ratio


class AdaptiveROIPooler(ROIPooler):
    """Detectron2's pooler, but a box's level follows from its share of its image instead of its own size.

    Constructed as ``ROIPooler``; ``canonical_box_size`` and ``canonical_level`` play no part. No parameters.
    """

    def forward(self, x: list[Tensor], boxes: list[Boxes], image_sizes: list[tuple[int, int]]) -> Tensor:
        """The pooled features (R, C, h, w) of the boxes of all images, in their order.

        Args:
            x: for each level (N, C, Hi, Wi), finest first.
            boxes: for each image M boxes in the frame of the network's input, not necessarily clipped.
            image_sizes: (height, width) of each image in the same frame, before padding.

        Source: CenterMask, section 3.2; :func:`~centermask_solo.ops.boxes.assign_levels_by_area_ratio`.
        """
        rois = convert_boxes_to_pooler_format(boxes)
        levels = self.assign_levels(boxes, image_sizes)
        order = levels.argsort(stable=True)
        counts = [(levels == level).sum() for level in range(self.min_level, self.max_level + 1)]
        rows_of_levels = order.split(torch.stack(counts).tolist())  # one wait for the device, whatever the levels
        output = x[0].new_zeros((len(rois), x[0].shape[1], *self.output_size))
        for features, pooler, rows in zip(x, self.level_poolers, rows_of_levels, strict=True):
            output.index_put_((rows,), pooler(features, rois[rows]))
        return output

    def assign_levels(self, boxes: list[Boxes], image_sizes: list[tuple[int, int]]) -> Tensor:
        """The pyramid level of each box of all images, (R,) int64; arguments as of :meth:`forward`."""
        areas = [b.area() for b in boxes]
        image_areas = [a.new_full((len(a),), float(h * w)) for a, (h, w) in zip(areas, image_sizes, strict=True)]
        return assign_levels_by_area_ratio(torch.cat(areas), torch.cat(image_areas), self.min_level, self.max_level)
