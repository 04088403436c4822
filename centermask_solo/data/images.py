"""Read images, and report those that cannot be read."""

from __future__ import annotations

import os
import struct
import zlib

from detectron2.data.detection_utils import read_image
from PIL import Image

from ..utils.errors import DataError

ORIENTATION = 0x0112  # the tag in EXIF data

# What PIL and the file system raise over a missing, truncated or otherwise damaged file
IMAGE_ERRORS = (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def image_size(path: str) -> tuple[int, int]:
    """Decode an image and return its (width, height) after the rotation that its EXIF data asks for.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        height, width = read_image(path, "RGB").shape[:2]
    except (*IMAGE_ERRORS, ValueError) as error:
        raise unreadable_image(path, error) from error
    return width, height


def exif_orientation(path: str) -> int:
    """Return the orientation of a readable image's EXIF data: 1 if shown as stored, 2 to 8 otherwise."""
    with Image.open(path) as image:
        return image.getexif().get(ORIENTATION, 1)


def check_image(path: str, expected: tuple[int, int]) -> None:
    """Raise DataError unless an image can be decoded and has the ``expected`` (width, height)."""
    found = image_size(path)
    if found != expected:
        raise wrong_size(path, found, expected)


def unreadable_image(path: str, error: Exception) -> DataError:
    """Return the error that names an image that cannot be read and the reason."""
    if isinstance(error, FileNotFoundError) or not os.path.exists(path):
        return DataError(f"the image {path} is missing: restore it, or remove it from the json")
    return DataError(f"the image {path} is damaged ({error}): replace it, or remove it from the json")


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
