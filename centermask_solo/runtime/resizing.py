"""From images of any size to the batches that an exported model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.pixels import Pixels
from .metadata import Input


class Batch(NamedTuple):
    """Images that a model can take at once.

    Attributes:
        indices: Which of the given images they are.
        images: (N, H, W, 3) uint8, zero beyond each image's size.
        sizes: (N, 2) int64, height and width of each image within it.
    """

    indices: list[int]
    images: Pixels
    sizes: NDArray[np.int64]


def resized_shape(shape: tuple[int, int], rule: Input) -> tuple[int, int]:
    """Return the height and width that an image of ``shape`` is resized to.

    The shorter edge gets the length ``short_edge``, unless the longer one would exceed ``max_long_edge``; so do
    Detectron2's models. A model of fixed size takes what fits into it, or is stretched to it.
    """
    height, width = shape
    if rule.resize.stretch:
        return (rule.size[0], rule.size[1]) if rule.size else shape
    new = (float(height), float(width))
    if rule.resize.short_edge:
        scale = rule.resize.short_edge / min(height, width)
        new = (rule.resize.short_edge, scale * width) if height < width else (scale * height, rule.resize.short_edge)
        if max(new) > rule.resize.max_long_edge:
            scale = rule.resize.max_long_edge / max(new)
            new = (new[0] * scale, new[1] * scale)
    if rule.size and (new[0] > rule.size[0] or new[1] > rule.size[1]):
        scale = min(rule.size[0] / new[0], rule.size[1] / new[1])
        new = (min(new[0] * scale, rule.size[0]), min(new[1] * scale, rule.size[1]))
    return max(int(new[0] + 0.5), 1), max(int(new[1] + 0.5), 1)


def resize(image: Pixels, rule: Input) -> Pixels:
    """Return an image (H, W, 3) in BGR order, resized, in the channel order of the model."""
    height, width = resized_shape(image.shape[:2], rule)
    if rule.channel_order == "RGB":
        image = image[:, :, ::-1]
    if (height, width) == image.shape[:2]:
        return image
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def make_batches(images: Sequence[Pixels], rule: Input) -> list[Batch]:
    """Return resized images in batches of one padded size each, on which their results depend."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(_padded_size(image.shape[:2], rule), []).append(i)
    return [_stack(images, indices, size, rule) for size, indices in groups.items()]


def _padded_size(shape: tuple[int, ...], rule: Input) -> tuple[int, ...]:
    """Return the size that the network sees of an image that is alone in its batch."""
    if rule.size:
        return rule.size
    if rule.resize.stretch:
        return shape
    pairs = zip(shape, rule.min_size, strict=True)
    return tuple(-(-max(n, least) // rule.divisibility) * rule.divisibility for n, least in pairs)


def _stack(images: Sequence[Pixels], indices: list[int], padded: tuple[int, ...], rule: Input) -> Batch:
    """Return images on a common canvas: the smallest that holds them, because the graph pads it further."""
    sizes = np.array([images[i].shape[:2] for i in indices], np.int64)
    canvas = padded
    if not rule.size:
        canvas = tuple(max(int(n), least) for n, least in zip(sizes.max(axis=0), rule.min_size, strict=True))
    stacked = np.zeros((len(indices), *canvas, 3), np.uint8)
    for to, i in zip(stacked, indices, strict=True):
        to[: images[i].shape[0], : images[i].shape[1]] = images[i]
    return Batch(indices, stacked, sizes)
