"""A view: a rectangle of an image, flipped or not, resampled in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import detectron2.data.transforms as T
import numpy as np
from numpy.typing import NDArray

__all__ = ["View"]

Array = NDArray[Any]


class _Axis(NamedTuple):
    """The source of each output pixel along one axis: two neighbors and their weights, which are 0 outside the image.

    Attributes:
        seen: Output pixels, n consecutive ones, that show a part of the source; the other attributes are theirs.
        low: Lower source pixels, counted from ``first``, (n,) int64.
        high: Upper source pixels, likewise.
        low_weight: Weights of the lower source pixels, (n,) float32.
        high_weight: Weights of the upper source pixels, (n,) float32.
        first: First source pixel that any output pixel reads.
        stop: One past the last.
    """

    seen: slice
    low: Array
    high: Array
    low_weight: Array
    high_weight: Array
    first: int
    stop: int

    @classmethod
    def between(cls, start: float, stop: float, n_in: int, n_out: int, flipped: bool) -> _Axis:
        """Map ``start`` .. ``stop`` of an axis of ``n_in`` pixels to ``n_out``; its end pixels are replicated."""
        length = stop - start
        at = (np.arange(n_out) + 0.5) * (length / n_out) - 0.5
        at = start + at.clip(0, max(length - 1, 0))
        if flipped:
            at = at[::-1]
        (shown,) = np.nonzero((at > -1) & (at < n_in))  # the lower or the upper neighbor is inside
        seen = slice(int(shown[0]), int(shown[-1]) + 1) if len(shown) else slice(0, 0)
        at = at[seen]
        low = np.floor(at).astype(np.int64)
        fraction = at - low
        low_weight = np.where(low >= 0, 1 - fraction, 0).astype(np.float32)
        high_weight = np.where(low + 1 < n_in, fraction, 0).astype(np.float32)
        first = max(int(low.min(initial=n_in)), 0)
        low, high = low.clip(0), (low + 1).clip(max=n_in - 1)
        return cls(
            seen, low - first, high - first, low_weight, high_weight, first, int(high.max(initial=first - 1)) + 1
        )


class View(T.Transform):
    """A rectangle of an image, flipped or not, resized to another size; beyond the image it shows ``fill``.

    Sampling is bilinear, in float32, with half-pixel centers and without antialiasing, as in YOLACT's published code.
    """

    def __init__(
        self,
        source_size: tuple[int, int],
        rectangle: tuple[float, float, float, float],
        output_size: tuple[int, int],
        *,
        flipped: bool = False,
        fill: Sequence[float] = (0.0,),
    ) -> None:
        """
        Args:
            source_size: (height, width) of the image.
            rectangle: x0 y0 x1 y1 in pixels of the image; may extend beyond it.
            output_size: (height, width) of the result.
            flipped: Whether it is flipped horizontally.
            fill: One number per channel, or one for all.
        """
        super().__init__()
        self.source_size, self.rectangle, self.output_size = source_size, rectangle, output_size
        self.flipped, self.fill = flipped, tuple(fill)

    def then(self, other: View) -> View:
        """Return this view followed by ``other`` as one view, with this one's fill beyond the image."""
        x0, y0, x1, y1 = self.rectangle
        scale_x, scale_y = (x1 - x0) / self.output_size[1], (y1 - y0) / self.output_size[0]
        left, top, right, bottom = other.rectangle
        if self.flipped:
            left, right = self.output_size[1] - right, self.output_size[1] - left
        rectangle = (x0 + left * scale_x, y0 + top * scale_y, x0 + right * scale_x, y0 + bottom * scale_y)
        return View(
            self.source_size, rectangle, other.output_size, flipped=self.flipped != other.flipped, fill=self.fill
        )

    def apply_image(self, img: Array) -> Array:
        """Return the view of an image (H, W, C): float32, (*output_size, C)."""
        return self._sample(img, np.array(self.fill, dtype=np.float32))

    def apply_segmentation(self, segmentation: Array) -> Array:
        """Return the view of a mask of zeros and ones, (H, W), rounded to zeros and ones; 0 beyond the image."""
        return (self._sample(segmentation[..., None], np.float32(0))[..., 0] > 0.5).astype(segmentation.dtype)

    def apply_coords(self, coords: Array) -> Array:
        """Return points (N, 2) of the image, x and y, in the frame of the view."""
        x0, y0, x1, y1 = self.rectangle
        height, width = self.output_size
        moved = (np.asarray(coords, dtype=np.float64) - (x0, y0)) * (width / (x1 - x0), height / (y1 - y0))
        if self.flipped:
            moved[:, 0] = width - moved[:, 0]
        return moved

    def shows_center(self, box: Array) -> bool:
        """Return whether the center of a box (4,), x0 y0 x1 y1 in pixels, lies strictly inside the rectangle."""
        x0, y0, x1, y1 = self.rectangle
        x, y = (box[:2] + box[2:]) / 2
        return bool(x0 < x < x1 and y0 < y < y1)

    def _sample(self, image: Array, fill: Any) -> Array:
        """Return the view of an image: one resize for a part of it, otherwise what is inside, over ``fill``."""
        part = self._part(image)
        if part is not None:
            height, width = self.output_size
            out = cv2.resize(part.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
            return np.ascontiguousarray(out[:, ::-1] if self.flipped else out).reshape(height, width, -1)
        # Source pixels that are visible, relative to the fill, then rows, then columns
        x0, y0, x1, y1 = self.rectangle
        rows = _Axis.between(y0, y1, self.source_size[0], self.output_size[0], False)
        columns = _Axis.between(x0, x1, self.source_size[1], self.output_size[1], self.flipped)
        seen = image[rows.first : rows.stop, columns.first : columns.stop].astype(np.float32) - fill
        seen = seen[rows.low] * rows.low_weight[:, None, None] + seen[rows.high] * rows.high_weight[:, None, None]
        low, high = np.take(seen, columns.low, axis=1), np.take(seen, columns.high, axis=1)
        out = np.zeros((*self.output_size, image.shape[2]), dtype=np.float32)
        out[rows.seen, columns.seen] = low * columns.low_weight[:, None] + high * columns.high_weight[:, None]
        return out + fill

    def _part(self, image: Array) -> Array | None:
        """Return the pixels of the rectangle; None unless it consists of whole pixels of the image."""
        x0, y0, x1, y1 = (int(x) for x in self.rectangle)
        height, width = self.source_size
        if (x0, y0, x1, y1) != self.rectangle or x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            return None
        return image[y0:y1, x0:x1]
