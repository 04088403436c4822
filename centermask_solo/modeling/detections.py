"""Detections of fixed shape: what decoding returns on a GPU and in exported files, where no size depends on data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor


class Detections(NamedTuple):
    """The detections of a batch in K slots per image, best first; slots from ``num_detections`` on are zero.

    Attributes:
        boxes: (N, K, 4) float32 x0, y0, x1, y1 in pixels of the network's input, not clipped.
        scores: (N, K) float32, descending.
        classes: (N, K) int64.
        num_detections: (N,) int64.
        exact: (N,) bool; whether the limits of the fixed shape changed nothing. Where it is False, ``inference`` of
            unlimited shape may find other detections.
        fields: Further tensors (N, K, ...), by name, from which the masks are made.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    num_detections: Tensor
    exact: Tensor
    fields: dict[str, Tensor]

    def filled(self) -> Tensor:
        """Return which slots hold a detection, (N, K) bool."""
        slots = torch.arange(self.scores.shape[1], device=self.scores.device)
        return slots < self.num_detections[:, None]

    def with_fields(self, fields: dict[str, Tensor]) -> Detections:
        """Return the same detections with other fields.

        Unlike those of ``_replace``, they can be what a function compiled by PyTorch 2.11 returns.
        """
        return Detections(self.boxes, self.scores, self.classes, self.num_detections, self.exact, fields)

    def slots(self, index: int, image_size: tuple[int, int]) -> Instances:
        """Return all K slots of an image as ``inference`` returns its detections, in the frame of the network's input.

        Args:
            index: Index of the image in the batch.
            image_size: (height, width) before padding.
        """
        fields = {name: x[index] for name, x in self.fields.items()}
        return Instances(
            image_size,
            pred_boxes=Boxes(self.boxes[index]),
            scores=self.scores[index],
            pred_classes=self.classes[index],
            **fields,
        )


def image_sizes_on(device: torch.device, image_sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return image sizes, N pairs (height, width), as (N, 2) int64 on a device that does not wait for them."""
    return torch.tensor([tuple(map(int, x)) for x in image_sizes]).to(device, non_blocking=True)
