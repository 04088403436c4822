"""Read images: one reader for training, prediction, evaluation and checks, which names those that cannot be read."""

from __future__ import annotations

import io
import os
import struct
import sys
import threading
import zlib
from functools import cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from ..utils.errors import DataError, UserError
from ..utils.reading import check_regular
from .bands import as_channels, decode_deep, has_bands, is_array, is_tiff, picture_of, read_array, read_bands, read_tiff
from .pixel_limit import TooLargeError
from .pixels import Pixels, orient, strips, swapped, to_8_bits

MAX_PIXELS = 178_956_970  # of an image; Pillow's limit, too
MAX_JPEG_BYTES = 2**28  # of a file that is read at once; 256 MiB
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".jp2", ".pgm", ".ppm", ".npy")
ORIENTATION = 0x0112  # the tag in EXIF data
_DEEP_GRAY = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # modes that Pillow would clip to 8 bits

# What PIL and the file system raise over a missing, truncated or otherwise damaged file
IMAGE_ERRORS = (OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)

_opening = threading.Lock()


def read_image(
    path: str, image_format: str = "BGR", max_pixels: int = MAX_PIXELS, channels: int | None = None
) -> NDArray[Any]:
    """Return the image of a dataset; see :func:`decode_image`.

    Raises:
        DataError: The file is missing, damaged or too large.
    """
    try:
        return decode_image(path, image_format, max_pixels, channels)
    except UserError:
        raise
    except IMAGE_ERRORS as error:
        raise unreadable_image(path, error) from error


def decode_image(
    path: str, image_format: str = "BGR", max_pixels: int = MAX_PIXELS, channels: int | None = None
) -> NDArray[Any]:
    """Return the first frame of an image file, turned as its EXIF data asks for.

    Grayscale and palettes become colors, alpha is dropped, CMYK is converted without color profiles, and what is not 8
    bits deep is scaled by :func:`~centermask_solo.data.pixels.to_8_bits`.

    Args:
        path: Image file of any format that Pillow reads, a .npy file, or a TIFF file of several bands.
        image_format: "BGR", "RGB", or another of Detectron2's formats.
        max_pixels: Most pixels that are decoded; 0 for no limit.
        channels: ``INPUT.CHANNELS`` of the model. With None, the picture is to be looked at, and of many bands the
            first three are shown, or else the first as gray.

    Returns:
        (H, W, 3) uint8 for "BGR" and "RGB"; for other formats as Detectron2's ``read_image``. For other numbers of
        channels (H, W, channels) float32 from 0 to 255, in the order of the file.

    Raises:
        DataError: The image has more than ``max_pixels``.
        OSError: The file is missing or damaged; also the other ``IMAGE_ERRORS``.
    """
    check_regular(path)
    with _open_file(path) as file:
        image = _open_picture(path, file)
        if image is None or channels not in (None, 3):
            bands = _read_bands(path, file, image, max_pixels)
            if channels not in (None, 3):
                return as_channels(bands, channels or 0, path)
            shown = picture_of(bands) if channels is None else np.rint(as_channels(bands, 3, path)).astype(np.uint8)
            return shown if image_format == "RGB" else np.ascontiguousarray(shown[:, :, ::-1])
        _check_pixels(path, image.size, max_pixels)
        pixels = _decode_jpeg(file) if _is_plain_jpeg(image) else None
        if pixels is None or pixels.shape[:2] != image.size[::-1]:
            is_deep_color = image.mode not in _DEEP_GRAY and any(";16" in str(tile[-1]) for tile in image.tile)
            image.load()
            pixels = picture_of(decode_deep(file)) if is_deep_color else rgb_pixels(image)
        pixels = np.ascontiguousarray(orient(pixels, _orientation(image)))
    if image_format in ("RGB", "BGR"):
        return pixels if image_format == "RGB" else swapped(pixels)
    from detectron2.data.detection_utils import convert_PIL_to_numpy  # only here, for programs without Detectron2

    return convert_PIL_to_numpy(Image.fromarray(pixels), image_format)


def _open_file(path: str) -> IO[bytes]:
    """Open a local file, or an address that Detectron2 knows how to fetch."""
    if "://" not in path:
        return open(path, "rb")
    from detectron2.utils.file_io import PathManager  # only here, for programs without Detectron2

    return PathManager.open(path, "rb")


def _open_picture(path: str, file: Any) -> ImageFile.ImageFile | None:
    """Return an image, not yet decoded; None for an array, and for a TIFF file whose bands Pillow does not know."""
    if is_array(path):
        return None
    try:
        return _open(file)
    except UnidentifiedImageError:
        if not is_tiff(path) or not has_bands(file):
            raise
        return None


def _read_bands(path: str, file: Any, image: ImageFile.ImageFile | None, max_pixels: int) -> NDArray[Any]:
    """Return all bands of an image, (H, W, C) of the type in the file, turned as its EXIF data asks for."""
    if image is None:
        bands = read_array(file) if is_array(path) else read_tiff(path, file)
        _check_pixels(path, bands.shape[1::-1], max_pixels)
        return bands
    _check_pixels(path, image.size, max_pixels)
    bands = read_bands(path, file, image)  # before EXIF data are read, which decodes some formats
    return orient(bands, _orientation(image))


def _open(file: Any) -> ImageFile.ImageFile:
    """Return an image of any size, not yet decoded."""
    with _opening:  # Pillow's limit, of which it also warns, is a global variable
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def rgb_pixels(image: Image.Image) -> Pixels:
    """Return the pixels of a Pillow image as they are stored, (H, W, 3) uint8 in RGB order."""
    if image.mode in _DEEP_GRAY:
        gray = to_8_bits(np.asarray(image))
        return np.stack([gray, gray, gray], axis=-1)
    pixels = np.empty((*image.size[::-1], 3), np.uint8)
    for top, bottom in strips(*pixels.shape[:2]):  # since converting takes the memory of several images
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)).convert("RGB"))
    return pixels


def _is_plain_jpeg(image: ImageFile.ImageFile) -> bool:
    """Return whether an image can be decoded by :func:`_decode_jpeg`, where PyTorch has been imported anyway."""
    if "torchvision" not in sys.modules:
        return False
    return image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L") and _decodes_jpeg_exactly()


def _decode_jpeg(file: Any) -> Pixels | None:
    """Return the pixels of a JPEG file in RGB order, in half of Pillow's time; None if it is damaged or enormous.

    Pillow, whose pixels these are, then says what is wrong with it, or reads it nevertheless.
    """
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    if file.seek(0, io.SEEK_END) > MAX_JPEG_BYTES:
        return None
    file.seek(0)
    try:
        content = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
        return decode_jpeg(content, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
    except (RuntimeError, ValueError):
        return None


@cache
def _decodes_jpeg_exactly() -> bool:
    """Return whether torchvision decodes to Pillow's pixels, as it does if both are built with one libjpeg."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 35, 3), np.uint8))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75)
    found = _decode_jpeg(file)
    return found is not None and np.array_equal(found, np.asarray(Image.open(file)))


def _check_pixels(path: str, size: tuple[int, int], max_pixels: int) -> None:
    count = size[0] * size[1]
    if max_pixels and count > max_pixels:
        fault = f"the image {path} is too large: it has {size[0]}x{size[1]} pixels, more than {max_pixels}"
        fix = f"set INPUT.MAX_IMAGE_PIXELS {count} (for data check: --max-image-pixels {count})"
        raise TooLargeError(fault, count, fix)


def _orientation(image: Image.Image) -> int:
    """Return the orientation of an image's EXIF data, 1 if there is none."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data raises anything, and is no reason to refuse an image
        return 1


def reason(error: Exception) -> str:
    """Return why an image cannot be read, without the file object that Pillow names when no format fits."""
    return "no image format fits" if isinstance(error, UnidentifiedImageError) else str(error)


def image_size(path: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Decode an image and return its (width, height) after the rotation that its EXIF data asks for.

    Raises:
        DataError: The file is missing, damaged or too large.
    """
    height, width = read_image(path, "RGB", max_pixels).shape[:2]
    return width, height


def stated_size(path: str) -> tuple[int, int]:
    """Return the (width, height) of an image as its file states it, turned as its EXIF data asks for; decode nothing.

    Raises:
        DataError: The file is missing or no image.
    """
    try:
        check_regular(path)
        with _open_file(path) as file:
            image = _open_picture(path, file)
            if image is None:
                height, width = _read_bands(path, file, image, 0).shape[:2]
                return width, height
            width, height = image.size
            return (height, width) if _orientation(image) >= 5 else (width, height)
    except IMAGE_ERRORS as error:
        raise unreadable_image(path, error) from error


def exif_orientation(path: str) -> int:
    """Return the orientation of a readable image's EXIF data: 1 if shown as stored, 2 to 8 otherwise."""
    return format_and_orientation(path)[1]


def format_and_orientation(path: str) -> tuple[str, int]:
    """Return Pillow's name of the format of a readable image, and its orientation; see :func:`exif_orientation`."""
    with _open_file(path) as file:
        image = _open_picture(path, file)
        return (str(image.format), _orientation(image)) if image is not None else ("", 1)


def check_image(path: str, expected: tuple[int, int], max_pixels: int = MAX_PIXELS) -> None:
    """Raise DataError unless an image can be decoded and has the ``expected`` (width, height)."""
    found = image_size(path, max_pixels)
    if found != expected:
        raise wrong_size(path, found, expected)


def read_labels(path: str, *, in_colors: bool = False) -> NDArray[Any]:
    """Return a label image, (H, W) of integers; of a palette, the numbers and not the colors.

    Raises:
        DataError: It is missing, damaged, or has several channels; with ``in_colors`` these are returned, (H, W, C).
    """
    try:
        check_regular(path)
        with _open_file(path) as file:
            labels = np.asarray(_open(file))
    except FileNotFoundError:
        hint = "restore it (datasets/prepare_panoptic_fpn.py creates those of panoptic datasets)"
        raise DataError(f"the label image {path} is missing: {hint}") from None
    except IMAGE_ERRORS as error:
        raise DataError(f"the label image {path} is damaged ({reason(error)}): create it again") from error
    if labels.ndim != 2 and not (in_colors and labels.shape[-1] >= 3):
        raise DataError(f"the label image {path} has {labels.shape[-1]} channels: it must have one, of class numbers")
    return labels


def unreadable_image(path: str, error: Exception) -> DataError:
    """Return the error that names an image that cannot be read and the reason."""
    if isinstance(error, FileNotFoundError) or not os.path.exists(path):
        return DataError(f"the image {path} is missing: restore it, or remove it from the json")
    return DataError(f"the image {path} is damaged ({reason(error)}): replace it, or remove it from the json")


def wrong_size(path: str, found: tuple[int, int], expected: tuple[int, int]) -> DataError:
    """Return the error for an image of another (width, height) than the annotations state."""
    swapped, fix = "", "correct the json"
    if expected == found[::-1]:
        swapped = ", width and height swapped"
        orientation = exif_orientation(path) if os.path.isfile(path) else 1
        if orientation >= 5:
            swapped = f", the size before the quarter turn of its EXIF orientation {orientation}"
            fix = "annotate the turned image, or remove the orientation from the file to keep the annotations"
    return DataError(
        f"the image {path} has {found[0]}x{found[1]} pixels, but the json says {expected[0]}x{expected[1]} "
        f"(width x height){swapped}: {fix}"
    )
