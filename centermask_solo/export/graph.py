"""Version 1 of the contract: what an exported graph takes and returns, the same for every system.

``docs/export.md`` describes it for those who use the files.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modeling.instance_part import detect_for_export
from ..modeling.mask_frame import MaskFrame, paste_in_graph
from ..ops.resize import resize_bilinear


class GraphInput(NamedTuple):
    """How the graph sees images.

    Attributes:
        divisibility: The graph pads to multiples of it, pixels.
        network_size: (height, width) that the graph resizes to instead of padding; None if the network takes any size.
    """

    divisibility: int
    network_size: tuple[int, int] | None


class ExportedGraph(nn.Module):
    """A model from images to detections of constant number, as one function of tensors."""

    def __init__(self, model: Any, frame: MaskFrame, source: GraphInput, variant: str, max_detections: int) -> None:
        """
        Args:
            model: Has the verbs ``predict``, ``detect`` and ``mask_probabilities``, and ``pixel_mean``, ``pixel_std``.
            frame: What its masks mean.
            source: How it sees images.
            variant: "detections", "full-masks" or "raw".
            max_detections: Number K of slots per image.
        """
        super().__init__()
        self.model = model
        self._frame, self._source = frame, source
        self._variant, self._max_detections = variant, max_detections

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        """Return the outputs of the contract by name, in its order.

        Args:
            images: (N, H, W, 3) uint8.
            image_sizes: (N, 2) int64, height and width of each image within it; None if all fill it.
        """
        predictions = self.model.predict(self._normalized(images, image_sizes))
        if self._variant == "raw":
            return raw_outputs(predictions)
        network_size = self._source.network_size
        sizes = image_sizes
        if network_size is not None:
            sizes = torch.tensor([network_size]).expand(images.shape[0], 2)
        assert sizes is not None
        detections = detect_for_export(self.model, predictions, sizes, self._max_detections)
        boxes = detections.boxes
        if network_size is not None:
            boxes = boxes * self._scale(images, network_size)
        found = {"boxes": boxes, "scores": detections.scores, "classes": detections.classes}
        if self._frame.frame != "none":
            masks = self.model.mask_probabilities(detections, predictions)
            if self._variant == "full-masks":
                masks = paste_in_graph(masks, boxes, self._frame, sizes, (images.shape[1], images.shape[2]))
            found["masks"] = masks
        found["num_detections"] = detections.num_detections
        found["exact"] = detections.exact
        if "mask_scores" in detections.fields:
            found["mask_scores"] = detections.fields["mask_scores"]
        return found

    def _scale(self, images: Tensor, network_size: tuple[int, int]) -> Tensor:
        """Return by what boxes in the frame of the network are multiplied, (4,) float32."""
        height, width = images.shape[1], images.shape[2]
        given = torch.tensor([width, height, width, height], dtype=torch.float32)  # tensors, as sizes may be unknown
        return given / torch.tensor([*network_size[::-1], *network_size[::-1]], dtype=torch.float32)

    def _normalized(self, images: Tensor, image_sizes: Tensor | None) -> Tensor:
        """Return the network's input, (N, 3, T_h, T_w) float32."""
        pixels = images.permute(0, 3, 1, 2).float()
        height, width = images.shape[1], images.shape[2]
        size = self._source.network_size
        if size is not None:
            pixels = resize_bilinear(pixels, size)
        pixels = (pixels - self.model.pixel_mean) / self.model.pixel_std
        if size is not None:
            return pixels
        if image_sizes is not None:  # what pads images of a batch becomes 0, as what pads the batch
            rows = torch.arange(height, device=images.device) < image_sizes[:, :1]
            columns = torch.arange(width, device=images.device) < image_sizes[:, 1:]
            pixels = torch.where(rows[:, None, :, None] & columns[:, None, None, :], pixels, 0.0)
        step = self._source.divisibility
        # Written with // because % of sizes that are not known yet cannot be exported.
        right, bottom = ((n + step - 1) // step * step - n for n in (width, height))
        return F.pad(pixels, (0, right, 0, bottom))


def raw_outputs(predictions: Any) -> dict[str, Tensor]:
    """Return the tensors of a model's predictions by name: those that it chose itself, or all of them in order."""
    if hasattr(predictions, "raw_outputs"):
        return predictions.raw_outputs()
    return dict(_flatten(predictions._asdict(), ""))


def _flatten(value: Any, name: str) -> list[tuple[str, Tensor]]:
    """Return the tensors in nested tuples, lists and dicts, with names such as ``class_logits_0``."""
    if isinstance(value, Tensor):
        return [(name, value)]
    if value is None:
        return []
    if hasattr(value, "_asdict"):
        value = value._asdict()
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [pair for key, x in items for pair in _flatten(x, f"{name}_{key}" if name else str(key))]
