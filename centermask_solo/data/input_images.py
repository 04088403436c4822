"""Images as callers hand them over: arrays of any type, Pillow images and paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..utils.errors import DataError, UserError
from .bands import as_channels
from .frames import Frame
from .images import IMAGE_ERRORS, MAX_PIXELS, decode_image, reason, rgb_pixels
from .pixels import Pixels, to_8_bits

Item = TypeVar("Item", bound=str | Frame)

_EXPECTED = "give an array (H, W, 3) in BGR order as of cv2.imread, or a path"


def as_bgr(image: Any, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return an image as (H, W, 3) uint8 in BGR order.

    Args:
        image: An array (H, W, 3) in BGR order, (H, W, 4) with alpha, which is dropped, or gray, (H, W) or (H, W, 1), of
            any type that :func:`~centermask_solo.data.pixels.to_8_bits` scales; a Pillow image, which is not turned
            by its EXIF data, so that results fit it; or the path of a file.
        max_pixels: Most pixels of a file; 0 for no limit.

    Raises:
        DataError: It is none of these, or the file is missing, too large, not a readable image, or one of other bands
            than gray or three.
    """
    if image is None:
        raise DataError(f"the image is None, as cv2.imread returns it for a file that it cannot read: {_EXPECTED}")
    if isinstance(image, (str, os.PathLike)):
        return _read_file(os.fspath(image), max_pixels, 3)
    if isinstance(image, Image.Image):
        return np.ascontiguousarray(rgb_pixels(image)[:, :, ::-1])
    if not isinstance(image, np.ndarray):
        raise _no_image(image)
    shape = " x ".join(map(str, image.shape)) or "no dimensions"
    if image.dtype.kind not in "buif":
        raise DataError(f"the image is an array of {image.dtype}: {_EXPECTED}, of numbers")
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4) and image.shape[0] in (1, 3, 4):
        raise DataError(f"the image is an array of {shape}, its channels first: {_EXPECTED}{_hint(image)}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise DataError(f"the image is an array of {shape}: {_EXPECTED}")
    if not image.size:
        raise DataError(f"the image is an array of {shape}, which has no pixels: {_EXPECTED}")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise DataError(f"the image has NaN or infinite values: {_EXPECTED}, of finite numbers")
    pixels = to_8_bits(image.reshape(*image.shape[:2], -1))
    return pixels[:, :, :3] if pixels.shape[2] >= 3 else np.repeat(pixels[:, :, :1], 3, axis=2)


def _no_image(image: Any) -> DataError:
    name = f"{type(image).__module__}.{type(image).__qualname__}".removeprefix("builtins.")
    return DataError(f"the image is a {name}: {_EXPECTED}{_hint(image)}")


def as_bands(image: Any, channels: int, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Return an image for a model of another number of channels than 3, (H, W, channels), from 0 to 255.

    Args:
        image: An array (H, W, channels), or (H, W) for one channel, of any type that
            :func:`~centermask_solo.data.pixels.to_8_bits` scales; a Pillow image; or the path of a file.
        channels: ``INPUT.CHANNELS``.
        max_pixels: Most pixels of a file; 0 for no limit.

    Raises:
        DataError: It is none of these, or has another number of channels.
    """
    if isinstance(image, (str, os.PathLike)):
        return _read_file(os.fspath(image), max_pixels, channels)
    values = np.asarray(image) if isinstance(image, Image.Image) else image
    if not isinstance(values, np.ndarray):
        raise _no_image(image)
    if values.ndim not in (2, 3) or values.dtype.kind not in "buif" or not values.size:
        shape = " x ".join(map(str, values.shape)) or "no dimensions"
        raise DataError(f"the image is an array of {shape} {values.dtype}: give an array (H, W, {channels}) of numbers")
    return as_channels(np.atleast_3d(values), channels, "the image")


def read_item(item: str | Frame, channels: int, max_pixels: int = MAX_PIXELS) -> tuple[Pixels, NDArray[Any]]:
    """Return the image of a frame or of a file to look at, (H, W, 3) uint8 in BGR order, and as a model takes it.

    Args:
        item: An image file or a frame.
        channels: ``INPUT.CHANNELS``. With 3, both images are one: that of :func:`as_bgr`. With others, the second one
            is that of :func:`as_bands`.
        max_pixels: Most pixels of a file; 0 for no limit.

    Raises:
        DataError: See there.
    """
    image = item.image if isinstance(item, Frame) else item
    if channels == 3:
        pixels = as_bgr(image, max_pixels)
        return pixels, pixels
    shown = image if isinstance(image, np.ndarray) else _read_file(image, max_pixels)
    return shown, as_bands(image, channels, max_pixels)


def read_images(
    items: Iterable[Item],
    channels: int,
    max_pixels: int,
    failures: list[DataError] | None = None,
    *,
    read: Callable[[Item, int, int], tuple[Pixels, NDArray[Any]]] | None = None,
) -> Iterator[tuple[Item, Pixels, NDArray[Any]]]:
    """Yield each item, and its image to look at and as a model takes it; see :func:`read_item`.

    Args:
        items: Image files and frames.
        channels: ``INPUT.CHANNELS`` of the model.
        max_pixels: Most pixels of a file; 0 for no limit.
        failures: Takes the errors of images that cannot be read, which are then left out; without it, the first such
            error is raised.
        read: What reads one of them, in place of :func:`read_item`.
    """
    for item in items:
        try:
            yield item, *(read or read_item)(item, channels, max_pixels)
        except DataError as error:
            if failures is None:
                raise
            failures.append(error)


def _read_file(path: str, max_pixels: int, channels: int | None = None) -> NDArray[Any]:
    if not os.path.isfile(path):
        raise DataError(f"there is no image {path}: correct the path")
    try:
        return decode_image(path, "BGR", max_pixels, channels)
    except UserError:
        raise
    except IMAGE_ERRORS as error:
        raise DataError(
            f"{path} is not a readable image (damaged, or of an unknown format): {reason(error)}"
        ) from error


def _hint(image: Any) -> str:
    """Return how to turn an image whose channels come first, or a tensor, into an array."""
    if isinstance(image, np.ndarray):
        return "; image.transpose(1, 2, 0) moves the channels"
    if hasattr(image, "permute"):
        return "; image.permute(1, 2, 0).cpu().numpy() is one, and [:, :, ::-1] of it turns RGB into BGR"
    return ""
