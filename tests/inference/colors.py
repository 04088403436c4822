"""A predictor that finds every color of an image exactly, except black, and the instances that tests compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances

from centermask_solo.structures.compact_masks import CroppedMasks


def make_instances(masks: Any, scores: Any = None, classes: Any = None) -> Instances:
    """Instances with crops as masks, from an array (M, H, W)."""
    masks = torch.as_tensor(np.asarray(masks)).bool()
    found = Instances((masks.shape[1], masks.shape[2]))
    found.pred_masks = CroppedMasks.encode(masks)
    found.pred_boxes = Boxes(found.pred_masks.boxes())
    found.scores = torch.tensor([0.9] * len(masks) if scores is None else scores, dtype=torch.float32)
    found.pred_classes = torch.tensor([0] * len(masks) if classes is None else classes, dtype=torch.int64)
    return found


class ColorPredictor:
    """Finds an instance for each color; its class is the blue value, its score grows with the green one."""

    def __init__(self) -> None:
        self.metadata = Metadata(name="colors", thing_classes=[f"blue{i}" for i in range(256)])
        self.score_threshold, self.threads, self.channels, self.max_pixels = 0.3, 0, 3, 0
        self.batches: list[int] = []

    def read(self, image: Any) -> Any:
        """See the interface."""
        return image

    def predict_images(self, images: Any, score_threshold: float | None = None) -> list[dict[str, Any]]:
        """See the interface."""
        self.batches.append(len(images))
        return [{"instances": self._find(image, score_threshold or 0)} for image in images]

    def _find(self, image: Any, threshold: float) -> Instances:
        numbers = np.unique(image.astype(np.int32) @ [1, 256, 65536])
        colors = [np.array([n % 256, n // 256 % 256, n // 65536]) for n in numbers if n]
        colors = [c for c in colors if 0.5 + c[1] / 512 >= threshold]
        masks = np.zeros((len(colors), *image.shape[:2]), bool)
        for mask, color in zip(masks, colors, strict=True):
            mask[:] = (image == color).all(axis=2)
        return make_instances(masks, [0.5 + c[1] / 512 for c in colors], [int(c[0]) for c in colors])
