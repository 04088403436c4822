"""Resizing that leaves something of the narrowest image."""

from __future__ import annotations

from typing import Any

import detectron2.data.transforms as T
from numpy.typing import NDArray


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's augmentation, but no edge is rounded to 0 pixels, as that of a strip of 1 x 4000 would be."""

    def get_transform(self, image: NDArray[Any]) -> T.Transform:
        """Return the transform of an image (H, W, ...)."""
        transform = super().get_transform(image)
        if isinstance(transform, T.ResizeTransform) and min(transform.new_h, transform.new_w) < 1:
            size = max(transform.new_h, 1), max(transform.new_w, 1)
            return T.ResizeTransform(*image.shape[:2], *size, transform.interp)
        return transform


def keep_a_pixel(augmentation: T.Augmentation) -> T.Augmentation:
    """Return :class:`ResizeShortestEdge` in place of Detectron2's, and any other augmentation as it is."""
    if type(augmentation) is not T.ResizeShortestEdge:
        return augmentation
    x: Any = augmentation
    return ResizeShortestEdge(x.short_edge_length, x.max_size, "range" if x.is_range else "choice", x.interp)
