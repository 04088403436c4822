"""Which of the instances of an image are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor

from ..ops.nms import greedy_nms
from ..structures.compact_masks import CroppedMasks
from ..structures.components import components
from ..structures.mask_formats import packed, without_masks
from ..utils.class_names import list_names
from ..utils.errors import ConfigError
from ..utils.text import nearest_hint

NMS_IOU = 0.5  # above which the instance with the lower score is a duplicate, whatever its class


@dataclass(frozen=True)
class Filters:
    """What is left out, in this order.

    Attributes:
        score_threshold: Instances with lower scores; None for the threshold of the model's system.
        classes: Names of the classes that are kept; None for all.
        class_agnostic_nms: Instances that another one with a better score overlaps by an IoU above 0.5, whatever their
            classes.
        split_components: Nothing, but each connected part of a mask becomes an instance of its own, with the score of
            the whole.
        min_area: Instances with fewer pixels; of boxes with smaller areas.
        max_detections: Instances beyond this number, those with the lowest scores; None for no limit.
    """

    score_threshold: float | None = None
    classes: Sequence[str] | None = None
    class_agnostic_nms: bool = False
    split_components: bool = False
    min_area: float = 0
    max_detections: int | None = None

    def class_indices(self, class_names: Sequence[str]) -> list[int] | None:
        """Return the numbers of :attr:`classes` in a model; None if all are kept.

        Raises:
            ConfigError: The model does not know one of them.
        """
        if self.classes is None:
            return None
        for name in self.classes:
            if not class_names:
                raise ConfigError(f"the model does not say how its classes are called: {name} cannot be chosen")
            if name not in class_names:
                raise ConfigError(
                    f"the model has no class {name!r}{nearest_hint(name, class_names)}: choose from "
                    f"{list_names(class_names)}"
                )
        return [class_names.index(name) for name in self.classes]

    def apply(self, instances: Instances, class_names: Sequence[str]) -> Instances:
        """Return the instances of an image, on the CPU, that are kept, the best first.

        Raises:
            ConfigError: See :meth:`class_indices`.
        """
        if self.score_threshold is not None:
            instances = instances[instances.scores >= self.score_threshold]
        indices = self.class_indices(class_names)
        if indices is not None:
            instances = instances[torch.isin(instances.pred_classes, torch.tensor(indices))]
        if not len(instances):
            return instances
        instances = instances[instances.scores.argsort(descending=True, stable=True)]
        if self.class_agnostic_nms:
            instances = instances[greedy_nms(overlaps(instances), None, NMS_IOU)]
        if self.split_components and instances.has("pred_masks"):
            instances = split_components(instances)
        if self.min_area:
            instances = instances[_areas(instances) >= self.min_area]
        return instances[: self.max_detections]


def overlaps(instances: Instances) -> Tensor:
    """Return the IoU of each instance with each, (M, M) float32: of masks, or else of boxes."""
    if instances.has("pred_masks"):
        masks = packed(instances.pred_masks)
        return masks.iou(masks)
    return pairwise_iou(instances.pred_boxes, instances.pred_boxes)


def split_components(instances: Instances) -> Instances:
    """Return an instance for each connected part of each mask, with the fields of the whole and a box of its own."""
    parts = [components(window) for window in packed(instances.pred_masks).windows()]
    rows = torch.tensor([i for i, found in enumerate(parts) for _ in found], dtype=torch.int64)
    result = without_masks(instances)[rows]
    result.pred_masks = CroppedMasks([window for found in parts for window in found], instances.image_size)
    result.pred_boxes = Boxes(result.pred_masks.boxes())
    return result


def _areas(instances: Instances) -> Tensor:
    return packed(instances.pred_masks).areas() if instances.has("pred_masks") else instances.pred_boxes.area()
