"""Random erasing: a rectangle of an image is filled with noise, and its objects lose the pixels below."""

from __future__ import annotations

import math
from typing import Any

import detectron2.data.transforms as T
import numpy as np
from numpy.typing import NDArray

__all__ = ["Erase", "RandomErase"]

Array = NDArray[Any]
ASPECT_RATIOS = (0.3, 1 / 0.3)  # of a rectangle, height over width


class Erase(T.Transform):
    """Fills a rectangle of the image. Masks of objects lose it by :meth:`erase`; labels of pixels stay."""

    def __init__(self, rectangle: tuple[int, int, int, int], fill: Array) -> None:
        """
        Args:
            rectangle: x0 y0 x1 y1, whole pixels inside the image.
            fill: (y1 - y0, x1 - x0, C), what it is filled with.
        """
        super().__init__()
        self.rectangle, self.fill = rectangle, fill

    def apply_image(self, img: Array) -> Array:
        """Return the image (H, W, C) with the rectangle filled."""
        out = img.copy()
        x0, y0, x1, y1 = self.rectangle
        out[y0:y1, x0:x1] = self.fill.astype(img.dtype)
        return out

    def apply_coords(self, coords: Array) -> Array:
        """Return the coordinates unchanged."""
        return coords

    def apply_segmentation(self, segmentation: Array) -> Array:
        """Return labels of pixels unchanged."""
        return segmentation

    def erase(self, masks: Any) -> None:
        """Clear the rectangle in masks (M, H, W), in place."""
        x0, y0, x1, y1 = self.rectangle
        masks[:, y0:y1, x0:x1] = False


class RandomErase(T.Augmentation):
    """Erases a random rectangle of some images.

    Source: Zhong et al., arXiv 1708.04896. There, the labels of objects stay; here, masks lose what is no longer seen.
    """

    def __init__(self, probability: float, areas: tuple[float, float]) -> None:
        """
        Args:
            probability: Share of the images.
            areas: Smallest and largest area relative to the image's.
        """
        super().__init__()
        self.probability, self.areas = probability, areas

    def get_transform(self, image: Array) -> T.Transform:
        """Return a random transform of an image (H, W, C)."""
        height, width = image.shape[:2]
        if self._rand_range() >= self.probability:
            return T.NoOpTransform()
        area = self._rand_range(*self.areas) * height * width
        ratio = math.exp(self._rand_range(*map(math.log, ASPECT_RATIOS)))
        h = min(height, max(1, round(math.sqrt(area * ratio))))
        w = min(width, max(1, round(math.sqrt(area / ratio))))
        x0, y0 = int(self._rand_range(0, width - w + 1)), int(self._rand_range(0, height - h + 1))
        noise = np.random.uniform(0, 255, (h, w, image.shape[2]))  # noqa: NPY002  (the seeded generator)
        return Erase((x0, y0, x0 + w, y0 + h), noise)
