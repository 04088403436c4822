"""Images of any number of channels: NumPy files, TIFF files of several bands, and what is in ordinary images."""

from __future__ import annotations

import importlib.util
import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageSequence, TiffImagePlugin

from ..utils.errors import DataError, MissingPackageError
from ..utils.text import counted
from .pixels import Pixels, scale_to_255, to_8_bits

Bands = NDArray[Any]  # (H, W, C) of any type, in the order of the file
ARRAYS, TIFFS = (".npy",), (".tif", ".tiff")
_SAMPLES_PER_PIXEL = 277  # the tag
_GRAY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, as in ITU-R BT.601
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_BANDS = {"1": "L", "P": "RGB", "PA": "RGBA", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "RGBX": "RGB", "La": "LA"}


def is_array(path: str) -> bool:
    """Return whether a file is one of NumPy's."""
    return path.lower().endswith(ARRAYS)


def is_tiff(path: str) -> bool:
    """Return whether a file may have bands that Pillow does not know."""
    return path.lower().endswith(TIFFS)


def has_bands(file: Any) -> bool:
    """Return whether a file that Pillow does not read is a TIFF file of several bands."""
    try:
        file.seek(0)
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
        return int(directory.get(_SAMPLES_PER_PIXEL, 1)) > 1
    except (OSError, SyntaxError, EOFError, ValueError, TypeError, struct.error):
        return False


def read_array(file: Any) -> Bands:
    """Return the array in a .npy file, (H, W), (H, W, C) or (C, H, W), as (H, W, C).

    The channels are first if that dimension is smaller than both others.

    Raises:
        ValueError: It is no such array, of numbers.
    """
    values = np.load(file, allow_pickle=False)
    if values.dtype.kind not in "buif" or values.ndim not in (2, 3) or not values.size:
        raise ValueError(f"an array {values.shape} of {values.dtype}: an image is (H, W) or (H, W, C), of numbers")
    if values.ndim == 3 and values.shape[0] < min(values.shape[1:]):
        values = np.moveaxis(values, 0, -1)
    return np.atleast_3d(values)


def read_tiff(path: str, file: Any) -> Bands:
    """Return the bands of a TIFF file that Pillow does not read.

    Raises:
        MissingPackageError: tifffile is not installed, or imagecodecs, which some compressions need.
        ValueError: Its dimensions are not those of an image.
    """
    if not _has_tifffile():
        raise MissingPackageError(
            f"{path} has bands that only the package tifffile reads: run 'pip install tifffile', or write it as .npy"
        )
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as content:
        series = content.series[0]
        try:
            values, axes = series.asarray(), series.axes
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise MissingPackageError(
                f"{path} has a compression that needs a package: run 'pip install imagecodecs'"
            ) from error
    rest = [i for i, axis in enumerate(axes) if axis not in "YX"]
    if len(rest) > 1 or "Y" not in axes or "X" not in axes:
        raise ValueError(f"its dimensions are {axes}, {values.shape}: an image has rows, columns and bands")
    return np.atleast_3d(np.moveaxis(values, rest[0], -1) if rest else values)


def read_bands(path: str, file: Any, image: ImageFile.ImageFile) -> Bands:
    """Return the bands of an image that Pillow has opened: all pages of a TIFF file, alpha, and 16 bits, too.

    Raises:
        OSError: It is damaged.
    """
    num_pages = getattr(image, "n_frames", 1) if is_tiff(path) else 1
    if num_pages > 1 and _has_tifffile():
        return read_tiff(path, file)
    if image.mode not in _DEEP and any(";16" in str(tile[-1]) for tile in image.tile):
        try:
            return decode_deep(file)
        except OSError:
            if not is_tiff(path) or not _has_tifffile():
                raise
            return read_tiff(path, file)
    pages = [np.atleast_3d(_page(x)) for x in (ImageSequence.Iterator(image) if num_pages > 1 else [image])]
    if len({x.shape[:2] for x in pages}) > 1:
        raise OSError("its pages have different sizes")
    return np.concatenate(pages, axis=2)


def decode_deep(file: Any) -> Bands:
    """Return the bands of a file with 16 bits per channel, of which Pillow reads 8 bits only.

    Raises:
        OSError: OpenCV does not read it.
    """
    file.seek(0)
    pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise OSError("OpenCV, which reads 16 bits per channel, does not know this format")
    pixels = np.atleast_3d(pixels)
    return pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]] if pixels.shape[2] >= 3 else pixels


def _page(image: Image.Image) -> NDArray[Any]:
    if image.mode == "P" and "transparency" in image.info:
        return np.array(image.convert("RGBA"))
    return np.array(image.convert(_BANDS[image.mode]) if image.mode in _BANDS else image)


def as_channels(bands: Bands, channels: int, path: str) -> NDArray[np.float32]:
    """Return bands as a model of ``channels`` channels takes them, (H, W, channels), scaled from 0 to 255.

    One channel is the gray of colors, without alpha.

    Raises:
        DataError: There are more or fewer bands.
    """
    values = scale_to_255(bands)
    count = values.shape[2]
    if channels == 1 and count in (2, 3, 4):
        values = values[:, :, :1] if count == 2 else (values[:, :, :3] @ _GRAY)[:, :, None]
    elif channels == 3 and count == 1:
        values = np.repeat(values, 3, axis=2)
    elif count != channels:
        raise DataError(
            f"{path} has {counted(count, 'channel')}, but INPUT.CHANNELS is {channels}: give images of "
            f"{channels}, or set "
            f"INPUT.CHANNELS {count}"
        )
    return np.ascontiguousarray(values)


def picture_of(bands: Bands) -> Pixels:
    """Return bands as a picture to look at, (H, W, 3) uint8 in RGB order: the first three, or the first as gray."""
    shown = bands[:, :, :3] if bands.shape[2] >= 3 else np.repeat(bands[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(to_8_bits(shown))


def _has_tifffile() -> bool:
    return importlib.util.find_spec("tifffile") is not None
