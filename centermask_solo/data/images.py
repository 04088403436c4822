"""Reading images, and what to say when one cannot be read."""

from __future__ import annotations

import os
import struct
import zlib

from detectron2.data.detection_utils import read_image
from PIL import Image

# What PIL and the file system raise over a missing, cut off or otherwise damaged file
IMAGE_ERRORS = (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def image_size(path: str) -> tuple[int, int]:
    """(width, height) of an image as it is trained with: turned as its EXIF data says; all of it is decoded.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is damaged.
    """
    try:
        height, width = read_image(path, "RGB").shape[:2]
    except (*IMAGE_ERRORS, ValueError) as error:
        raise unreadable_image(path, error) from error
    return width, height


def unreadable_image(path: str, error: Exception) -> FileNotFoundError | ValueError:
    """The error that says which image cannot be read and why."""
    if isinstance(error, FileNotFoundError) or not os.path.exists(path):
        return FileNotFoundError(f"the image {path} is missing: put it there, or take it out of the json")
    return ValueError(f"the image {path} is damaged ({error}): replace it, or take it out of the json")


def wrong_size(path: str, expected: tuple[int, int]) -> ValueError:
    """The error that says that an image is not of the ``expected`` (width, height)."""
    width, height = image_size(path)
    exchanged = ", width and height exchanged" if expected == (height, width) else ""
    return ValueError(
        f"the image {path} has {width}x{height} pixels, but the json says {expected[0]}x{expected[1]} "
        f"(width x height){exchanged}: correct the json"
    )
