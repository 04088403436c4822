"""Resizing that leaves something of the narrowest image."""

from __future__ import annotations

from typing import Any

import detectron2.data.transforms as T
import numpy as np
from numpy.typing import NDArray
from PIL import Image


class _ResizeBands(T.ResizeTransform):
    """Detectron2's transform, which for float32 skips pixels when it shrinks; here each band is resized as uint8 is."""

    def apply_image(self, img: NDArray[Any], interp: Any = None) -> NDArray[Any]:
        """Return the resized image."""
        if img.dtype != np.float32 or img.ndim != 3:
            return np.asarray(super().apply_image(img, interp))
        size, how = (self.new_w, self.new_h), self.interp if interp is None else interp
        bands = [Image.fromarray(np.ascontiguousarray(x)).resize(size, how) for x in np.moveaxis(img, -1, 0)]
        return np.stack([np.asarray(x) for x in bands], axis=-1)


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's augmentation, but no edge is rounded to 0 pixels, as that of a strip of 1 x 4000 would be."""

    def get_transform(self, image: NDArray[Any]) -> T.Transform:
        """Return the transform of an image (H, W, ...)."""
        return _at_least_a_pixel(super().get_transform(image), image)


class ResizeScale(T.ResizeScale):
    """Likewise, for the random sizes of large-scale jitter."""

    def get_transform(self, image: NDArray[Any]) -> T.Transform:
        """Return the transform of an image (H, W, ...)."""
        return _at_least_a_pixel(super().get_transform(image), image)


def _at_least_a_pixel(transform: T.Transform, image: NDArray[Any]) -> T.Transform:
    if not isinstance(transform, T.ResizeTransform):
        return transform
    size = max(transform.new_h, 1), max(transform.new_w, 1)
    if image.ndim == 3 and image.dtype == np.float32:
        return _ResizeBands(*image.shape[:2], *size, transform.interp)
    return T.ResizeTransform(*image.shape[:2], *size, transform.interp)


def keep_a_pixel(augmentation: T.Augmentation) -> T.Augmentation:
    """Return :class:`ResizeShortestEdge` in place of Detectron2's, and any other augmentation as it is."""
    if type(augmentation) is not T.ResizeShortestEdge:
        return augmentation
    x: Any = augmentation
    return ResizeShortestEdge(x.short_edge_length, x.max_size, "range" if x.is_range else "choice", x.interp)
