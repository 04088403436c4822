"""Random views of an image: expansion, crop, flip and resize, composed so that an image is sampled once.

Each augmentation chooses a :class:`~.view.View`; :class:`OneView` composes the choices of several into one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import detectron2.data.transforms as T
import numpy as np
from numpy.typing import NDArray

from .view import View

__all__ = ["OneView", "RandomCropKeepingCenters", "RandomExpand", "RandomMirror", "ResizeTo", "ViewAugmentation"]

Array = NDArray[Any]
ASPECT_RATIOS = (0.5, 2.0)  # of a crop, height over width
CROP_TRIES = 50  # per draw of the mode
CROP_PROBABILITY = 5 / 6  # five of SSD's six modes crop; their conditions on the overlap have no effect in YOLACT


class ViewAugmentation(T.Augmentation):
    """Base class of augmentations that choose a view from the size of an image and the boxes of its objects."""

    def get_transform(self, image: Array, boxes: Array | None) -> View:
        """Return the view that :meth:`choose` chooses.

        Args:
            image: (H, W, C).
            boxes: Boxes of the objects without crowds, (M, 4) x0 y0 x1 y1; None for no objects.
        """
        boxes = np.zeros((0, 4)) if boxes is None else np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        return self.choose((image.shape[0], image.shape[1]), boxes)

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """Return a view of an image of a given (height, width) with objects at ``boxes``, (M, 4) x0 y0 x1 y1."""
        raise NotImplementedError


class RandomExpand(ViewAugmentation):
    """Places every second image at a random position of a canvas of up to ``max_ratio`` times its sides."""

    def __init__(self, max_ratio: float, fill: Sequence[float]) -> None:
        """
        Args:
            max_ratio: Largest ratio of the sides, at least 1.
            fill: Color of the canvas, in the image's channel order.
        """
        super().__init__()
        self.max_ratio, self.fill = max_ratio, fill

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """Return the canvas, or the whole image."""
        height, width = size
        if self._rand_range() >= 0.5:
            return _whole(size)
        ratio = self._rand_range(1, self.max_ratio)
        left = int(self._rand_range(0, width * ratio - width))
        top = int(self._rand_range(0, height * ratio - height))
        canvas = int(height * ratio), int(width * ratio)
        return View(size, (-left, -top, canvas[1] - left, canvas[0] - top), canvas, fill=self.fill)


class RandomCropKeepingCenters(ViewAugmentation):
    """Crops five out of six images to a part that has the center of an object strictly inside, if there are objects.

    Source: YOLACT's published code, after SSD (arXiv 1512.02325). SSD also requires an overlap with the objects; in
        YOLACT's training that condition had no effect, and its authors found that it hurts training.
    Differs: crops may begin at the first row and column, too; an image without objects is cropped anywhere.
    """

    def __init__(self, min_size: float) -> None:
        """
        Args:
            min_size: Shortest sides relative to the image's; at most 1.
        """
        super().__init__()
        self.min_size = min_size

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """Return a part of the image, or the whole image, after a random number of draws."""
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        while self._rand_range() < CROP_PROBABILITY:
            crops = self._draw(size)
            crops = crops[(crops[:, 2:] > crops[:, :2]).all(axis=1)]
            if len(centers):
                inside: Any = (crops[:, None, :2] < centers) & (centers < crops[:, None, 2:])
                crops = crops[inside.all(axis=2).any(axis=1)]
            if len(crops):
                x0, y0, x1, y1 = (int(x) for x in crops[0])
                return View(size, (x0, y0, x1, y1), (y1 - y0, x1 - x0))
        return _whole(size)

    def _draw(self, size: tuple[int, int]) -> Array:
        """Draw ``CROP_TRIES`` crops and return those of a valid aspect ratio, (n, 4) int64 x0 y0 x1 y1."""
        sides = self._rand_range(self.min_size, 1, (CROP_TRIES, 2)) * size[::-1]
        origin = self._rand_range(0, 1, (CROP_TRIES, 2)) * (size[::-1] - sides)
        ratios = sides[:, 1] / sides[:, 0]
        valid = (ratios >= ASPECT_RATIOS[0]) & (ratios <= ASPECT_RATIOS[1])
        return np.concatenate([origin, origin + sides], axis=1)[valid].astype(np.int64)


class RandomMirror(ViewAugmentation):
    """Flips every second image horizontally."""

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """Return the whole image, flipped or not."""
        return View(size, (0, 0, size[1], size[0]), size, flipped=bool(self._rand_range() < 0.5))


class ResizeTo(ViewAugmentation):
    """Resizes every image to a given size, whatever its aspect ratio."""

    def __init__(self, size: tuple[int, int]) -> None:
        """
        Args:
            size: (height, width) of the result.
        """
        super().__init__()
        self.size = size

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """Return the whole image at the given size."""
        return View(size, (0, 0, size[1], size[0]), self.size)


class OneView(ViewAugmentation):
    """Applies several augmentations in sequence as one view, so that the image is sampled once.

    If none but the last changes the size of pixels, the result equals that of applying them one by one.
    """

    def __init__(self, augmentations: Sequence[ViewAugmentation]) -> None:
        """
        Args:
            augmentations: Each sees the choices of those before it. One that extends beyond the image comes first.
        """
        super().__init__()
        self.augmentations = list(augmentations)

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """Return the composition of what they choose."""
        view: View | None = None
        for augmentation in self.augmentations:
            step = augmentation.choose(size, boxes)
            view = step if view is None else view.then(step)
            size, boxes = step.output_size, step.apply_box(boxes)
        return _whole(size) if view is None else view


def _whole(size: tuple[int, int]) -> View:
    return View(size, (0, 0, size[1], size[0]), size)
