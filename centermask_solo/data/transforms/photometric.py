"""Random changes of an image's colors."""

from __future__ import annotations

from typing import Any

import cv2
import detectron2.data.transforms as T
import numpy as np
from numpy.typing import NDArray

from ...utils.errors import ConfigError

__all__ = ["PhotometricDistortion"]

Array = NDArray[Any]


class _Distort(T.Transform):
    """A change of the colors by given amounts."""

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
        """Return the image as float32, (H, W, 3), neither rounded nor clipped."""
        out: Any = (img.astype(np.float32) + np.float32(self.brightness)) * np.float32(self.contrast)
        if (self.saturation, self.hue) != (1.0, 0.0):
            to_hsv, from_hsv = (
                (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB)
                if self.image_format == "RGB"
                else (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)
            )
            hsv = cv2.cvtColor(out, to_hsv)  # hue in degrees, saturation in 0..1, value in the range of the image
            hsv[..., 1] *= np.float32(self.saturation)
            hsv[..., 0] = (hsv[..., 0] + np.float32(self.hue)) % 360
            out = cv2.cvtColor(hsv, from_hsv)
        return out

    def apply_coords(self, coords: Array) -> Array:
        """Return the coordinates unchanged."""
        return coords

    def apply_segmentation(self, segmentation: Array) -> Array:
        """Return the mask unchanged."""
        return segmentation


class PhotometricDistortion(T.Augmentation):
    """Changes brightness, contrast, saturation and hue, each with a probability of one half.

    Source: YOLACT's published code, after SSD (arXiv 1512.02325). Nothing is clipped or rounded, neither in between nor
        at the end. There the contrast changes after the saturation in half of the cases, which gives the same colors,
        because a factor of all channels preserves hue and saturation.
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
            image_format: Order of the channels, "RGB" or "BGR".
            brightness: Largest change of all channels, out of 255.
            contrast: Range of the factor of all channels.
            saturation: Range of the factor of the saturation.
            hue: Largest rotation of the hue, degrees.

        Raises:
            ConfigError: The order of the channels is neither.
        """
        super().__init__()
        if image_format not in ("RGB", "BGR"):
            raise ConfigError(
                "INPUT.SSD.PHOTOMETRIC or INPUT.COLOR needs images in RGB or BGR, not INPUT.FORMAT "
                f"{image_format!r}: set INPUT.SSD.PHOTOMETRIC False and INPUT.COLOR none"
            )
        self.image_format = image_format
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def get_transform(self, image: Array) -> T.Transform:
        """Return a random distortion, independent of the image."""
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
