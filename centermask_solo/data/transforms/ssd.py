"""SSD's augmentation as YOLACT trains with it: colours, then one view of the image on a larger canvas.

Expansion, crop, mirror and resize are augmentations of Detectron2, each of which chooses a :class:`~.view.View`.
:class:`OneView` composes what several of them choose, so that an image is sampled once, whatever was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import detectron2.data.transforms as T
import numpy as np
from detectron2.config import CfgNode
from numpy.typing import NDArray

from .view import View

__all__ = [
    "OneView",
    "PhotometricDistortion",
    "RandomCropKeepingCentres",
    "RandomExpand",
    "RandomMirror",
    "ResizeTo",
    "build_ssd_augmentations",
]

Array = NDArray[Any]
FILL_RGB = (123.68, 116.78, 103.94)  # of the canvas: ImageNet's mean, with every backbone
ASPECT_RATIOS = (0.5, 2.0)  # of a crop, height over width
CROP_TRIES = 50  # until the mode is drawn anew
CROP_PROBABILITY = 5 / 6  # five of SSD's six modes crop; their conditions on the overlap have no effect in YOLACT


class _Distort(T.Transform):
    """Colours changed by given amounts; geometry stays."""

    def __init__(
        self,
        *,
        brightness: float,
        contrast: float,
        saturation: float,
        hue: float,
        image_format: str,
    ) -> None:
        super().__init__()
        self.brightness, self.contrast = brightness, contrast
        self.saturation, self.hue, self.image_format = saturation, hue, image_format

    def apply_image(self, img: Array) -> Any:
        """The image as float32, (H, W, 3), neither rounded nor clipped."""
        out: Any = (img.astype(np.float32) + np.float32(self.brightness)) * np.float32(self.contrast)
        if (self.saturation, self.hue) != (1.0, 0.0):
            to_hsv, from_hsv = (
                (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB)
                if self.image_format == "RGB"
                else (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)
            )
            hsv = cv2.cvtColor(out, to_hsv)  # degrees, 0..1, and as the image
            hsv[..., 1] *= np.float32(self.saturation)
            hsv[..., 0] = (hsv[..., 0] + np.float32(self.hue)) % 360
            out = cv2.cvtColor(hsv, from_hsv)
        return out

    def apply_coords(self, coords: Array) -> Array:
        """The coordinates as they are."""
        return coords

    def apply_segmentation(self, segmentation: Array) -> Array:
        """The mask as it is."""
        return segmentation


class PhotometricDistortion(T.Augmentation):
    """Brightness, contrast, saturation and hue, each changed with a probability of one half.

    Source: YOLACT's published code, after SSD (arXiv 1512.02325). Nothing is clipped or rounded in between, nor at the
        end. There the contrast changes after the saturation in half of the cases, which gives the same colours: a
        factor of all channels keeps hue and saturation.
    """

    def __init__(
        self,
        image_format: str,
        *,
        brightness: float = 32.0,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: float = 18.0,
    ) -> None:
        """
        Args:
            image_format: order of the channels, "RGB" or "BGR".
            brightness: largest number added to all channels, of 0..255.
            contrast: range of the factor of all channels.
            saturation: range of the factor of the saturation.
            hue: largest angle by which the hue is turned, degrees.

        Raises:
            ValueError: another order of the channels.
        """
        super().__init__()
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.SSD.PHOTOMETRIC needs images in RGB or BGR, not INPUT.FORMAT {image_format!r}")
        self.image_format = image_format
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def get_transform(self, image: Array) -> T.Transform:
        """What was drawn; of ``image`` nothing is needed."""
        return _Distort(
            brightness=self._sometimes(-self.brightness, self.brightness, neutral=0.0),
            contrast=self._sometimes(*self.contrast, neutral=1.0),
            saturation=self._sometimes(*self.saturation, neutral=1.0),
            hue=self._sometimes(-self.hue, self.hue, neutral=0.0),
            image_format=self.image_format,
        )

    def _sometimes(self, low: float, high: float, *, neutral: float) -> float:
        return float(self._rand_range(low, high)) if self._heads() else neutral

    def _heads(self) -> bool:
        return bool(self._rand_range() < 0.5)


class ViewAugmentation(T.Augmentation):
    """The base of the augmentations below: it chooses a view by the size of the image and the boxes of its objects."""

    def get_transform(self, image: Array, boxes: Array | None) -> View:
        """The view that :meth:`choose` chooses.

        Args:
            image: (H, W, C).
            boxes: (M, 4) x0 y0 x1 y1 of the objects, crowds excluded; None for no objects.
        """
        boxes = np.zeros((0, 4)) if boxes is None else np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        return self.choose((image.shape[0], image.shape[1]), boxes)

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """A view of an image of a given height and width, with objects at ``boxes``, (M, 4) x0 y0 x1 y1."""
        raise NotImplementedError


class RandomExpand(ViewAugmentation):
    """Every second image somewhere on a canvas with up to ``max_ratio`` times its sides."""

    def __init__(self, max_ratio: float, fill: Sequence[float]) -> None:
        """
        Args:
            max_ratio: at least 1.
            fill: the canvas's colour, in the image's order of channels.
        """
        super().__init__()
        self.max_ratio, self.fill = max_ratio, fill

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """The canvas."""
        height, width = size
        if self._rand_range() >= 0.5:
            return _whole(size)
        ratio = self._rand_range(1, self.max_ratio)
        left = int(self._rand_range(0, width * ratio - width))
        top = int(self._rand_range(0, height * ratio - height))
        canvas = int(height * ratio), int(width * ratio)
        return View(size, (-left, -top, canvas[1] - left, canvas[0] - top), canvas, fill=self.fill)


class RandomCropKeepingCentres(ViewAugmentation):
    """Five of six images cropped, to a part that has the centre of an object strictly inside, if there is any object.

    Source: YOLACT's published code, after SSD (arXiv 1512.02325). SSD also demands an overlap with the objects; in
        YOLACT's training that condition had no effect, and its authors found training to suffer with it.
    Differs: crops may begin at the first row and column, too; an image without objects is cropped anywhere.
    """

    def __init__(self, min_size: float) -> None:
        """
        Args:
            min_size: shortest sides, relative to the image's; at most 1.
        """
        super().__init__()
        self.min_size = min_size

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """The whole image, or a part of it; a random number of draws."""
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        while self._rand_range() < CROP_PROBABILITY:
            crops = self._draw(size)
            crops = crops[(crops[:, 2:] > crops[:, :2]).all(axis=1)]
            if len(centres):
                inside: Any = (crops[:, None, :2] < centres) & (centres < crops[:, None, 2:])
                crops = crops[inside.all(axis=2).any(axis=1)]
            if len(crops):
                x0, y0, x1, y1 = (int(x) for x in crops[0])
                return View(size, (x0, y0, x1, y1), (y1 - y0, x1 - x0))
        return _whole(size)

    def _draw(self, size: tuple[int, int]) -> Array:
        """As many crops as have a suitable aspect ratio of ``CROP_TRIES``, (n, 4) int64 x0 y0 x1 y1."""
        sides = self._rand_range(self.min_size, 1, (CROP_TRIES, 2)) * size[::-1]
        origin = self._rand_range(0, 1, (CROP_TRIES, 2)) * (size[::-1] - sides)
        ratios = sides[:, 1] / sides[:, 0]
        suits = (ratios >= ASPECT_RATIOS[0]) & (ratios <= ASPECT_RATIOS[1])
        return np.concatenate([origin, origin + sides], axis=1)[suits].astype(np.int64)


class RandomMirror(ViewAugmentation):
    """Every second image mirrored horizontally."""

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """All of the image."""
        return View(size, (0, 0, size[1], size[0]), size, flipped=bool(self._rand_range() < 0.5))


class ResizeTo(ViewAugmentation):
    """The image at a given size, whatever its aspect ratio."""

    def __init__(self, size: tuple[int, int]) -> None:
        """
        Args:
            size: height and width.
        """
        super().__init__()
        self.size = size

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """All of the image."""
        return View(size, (0, 0, size[1], size[0]), self.size)


class OneView(ViewAugmentation):
    """Several augmentations one after the other, as one view, so that the image is sampled once.

    Where each of them keeps the size of pixels, but for the last, the result is that of all of them in a row.
    """

    def __init__(self, augmentations: Sequence[ViewAugmentation]) -> None:
        """
        Args:
            augmentations: each sees what those before it chose. One that reaches beyond the image comes first.
        """
        super().__init__()
        self.augmentations = list(augmentations)

    def choose(self, size: tuple[int, int], boxes: Array) -> View:
        """What all of them choose together."""
        view: View | None = None
        for augmentation in self.augmentations:
            step = augmentation.choose(size, boxes)
            view = step if view is None else view.then(step)
            size, boxes = step.output_size, step.apply_box(boxes)
        return _whole(size) if view is None else view


def _whole(size: tuple[int, int]) -> View:
    return View(size, (0, 0, size[1], size[0]), size)


def build_ssd_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """The augmentation of YOLACT's training: colours as ``INPUT.SSD`` says, then one view of the network's size.

    Raises:
        ValueError: options that do not go together.
    """
    node, flip = cfg.INPUT.SSD, cfg.INPUT.RANDOM_FLIP
    if cfg.MODEL.META_ARCHITECTURE != "YOLACT":
        raise ValueError(
            "INPUT.AUGMENTATION 'ssd' gives images of YOLACT's input size; give "
            f"{cfg.MODEL.META_ARCHITECTURE} INPUT.AUGMENTATION 'default'"
        )
    if cfg.INPUT.CROP.ENABLED:
        raise ValueError("INPUT.AUGMENTATION 'ssd' crops by INPUT.SSD.MIN_CROP: give INPUT.CROP.ENABLED False")
    if flip not in ("horizontal", "none"):
        raise ValueError(
            f"INPUT.AUGMENTATION 'ssd' flips horizontally or not at all: INPUT.RANDOM_FLIP cannot be {flip!r}"
        )
    if node.MAX_EXPAND < 1 or not 0 < node.MIN_CROP <= 1:
        raise ValueError(
            "INPUT.SSD.MAX_EXPAND must be at least 1, and INPUT.SSD.MIN_CROP above 0 and at most 1, not "
            f"{node.MAX_EXPAND} and {node.MIN_CROP}"
        )
    fill = FILL_RGB if cfg.INPUT.FORMAT == "RGB" else FILL_RGB[::-1]
    views: list[ViewAugmentation] = []
    if node.MAX_EXPAND > 1:
        views.append(RandomExpand(node.MAX_EXPAND, fill))
    if node.MIN_CROP < 1:
        views.append(RandomCropKeepingCentres(node.MIN_CROP))
    if flip == "horizontal":
        views.append(RandomMirror())
    views.append(ResizeTo((cfg.MODEL.YOLACT.INPUT_SIZE, cfg.MODEL.YOLACT.INPUT_SIZE)))
    colours = [PhotometricDistortion(cfg.INPUT.FORMAT)] if node.PHOTOMETRIC else []
    return [*colours, OneView(views)]
