"""Instances with overlapping rectangles, for tests of NMS."""

from __future__ import annotations

import torch
from detectron2.structures import Boxes, Instances

from centermask_solo.modeling.instance_nms import InstanceNMS, NMSOptions
from centermask_solo.ops.masks import masks_to_boxes


def make_nms(name: str, **options: object) -> InstanceNMS:
    """A rule with some options."""
    return InstanceNMS(name, NMSOptions(**options))


def random_instances(seed: int = 0, count: int = 40, num_classes: int = 3) -> Instances:
    """Rectangles with their boxes; scores with ties, in no order; ``place`` says where each was."""
    rng = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, 24, 24, dtype=torch.bool)
    for mask in masks:
        y, x = torch.randint(0, 12, (2,), generator=rng).tolist()
        h, w = torch.randint(4, 12, (2,), generator=rng).tolist()
        mask[y : y + h, x : x + w] = True
    instances = Instances((24, 24))
    instances.pred_masks, instances.pred_boxes = masks, Boxes(masks_to_boxes(masks))
    instances.scores = torch.randint(1, 16, (count,), generator=rng) / 16
    instances.pred_classes = torch.randint(0, num_classes, (count,), generator=rng)
    instances.place = torch.arange(count)
    return instances


def order_of(instances: Instances) -> list[int]:
    """Rows by descending score."""
    return sorted(range(len(instances)), key=lambda i: -instances.scores[i])


def boxes_with_class_scores(seed: int = 0, count: int = 40, num_classes: int = 3) -> Instances:
    """Boxes with a score for every class, and the fields of the best one."""
    instances = random_instances(seed, count, num_classes)
    rng = torch.Generator().manual_seed(seed)
    instances.class_scores = torch.rand(count, num_classes, generator=rng)
    instances.scores, instances.pred_classes = instances.class_scores.max(dim=1)
    return instances
