"""Exported files in place of Detectron2's models, for evaluators and pictures; unlike the rest, this needs both."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from ..structures.compact_masks import RLEMasks
from ..structures.mask_formats import MASK_FORMAT
from .instances import ExportedInstances
from .predictor import ExportedPredictor


class ExportedModel(nn.Module):
    """An exported file with the inputs and outputs of Detectron2's models.

    Attributes:
        predictor: What runs the file.
        thing_classes: Names of the classes, in order; None if they are unknown.
    """

    def __init__(self, predictor: ExportedPredictor) -> None:
        """
        Args:
            predictor: What runs the file.
        """
        super().__init__()
        self.predictor = predictor
        self.thing_classes = predictor.class_names
        self.eval()

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Return ``{"instances": Instances}`` of each input, in the frame of its output size, on the CPU.

        Args:
            batched_inputs: ``image`` (3, H, W) in 0..255, resized by the rule of the model; ``height`` and ``width`` of
                the output; and maybe ``mask_format``: masks of other forms than "dense" become :class:`RLEMasks`.
        """
        images = [np.ascontiguousarray(x["image"].permute(1, 2, 0).to(torch.uint8).numpy()) for x in batched_inputs]
        sizes = [
            (int(x.get("height") or image.shape[0]), int(x.get("width") or image.shape[1]))
            for x, image in zip(batched_inputs, images, strict=True)
        ]
        form = "rle" if all(x.get(MASK_FORMAT, "dense") != "dense" for x in batched_inputs) else "dense"
        return [{"instances": to_instances(x)} for x in self.predictor.run(images, sizes, form)]


def to_instances(found: ExportedInstances) -> Instances:
    """Return Detectron2's ``Instances`` with the same fields; run-length codes become :class:`RLEMasks`."""
    fields: dict[str, Any] = dict(found.get_fields())
    boxes, masks = fields.pop("pred_boxes"), fields.pop("pred_masks", None)
    instances = Instances(found.image_size, pred_boxes=Boxes(torch.from_numpy(boxes)))
    for name, values in fields.items():
        instances.set(name, torch.from_numpy(values))
    if masks is not None:
        instances.pred_masks = RLEMasks(masks, found.image_size) if isinstance(masks, list) else torch.from_numpy(masks)
    return instances
