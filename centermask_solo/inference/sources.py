"""Finding and reading the images to predict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import glob

import numpy as np
from detectron2.data.detection_utils import read_image as read_with_detectron2

from ..utils.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def find_images(inputs: Sequence[str]) -> list[str]:
    """Return the image files that ``inputs`` name: files, folders (their images, without subfolders) and patterns.

    Raises:
        DataError: One of them matches no file.
    """
    paths: list[str] = []
    for name in inputs:
        if os.path.isdir(name):
            found = [os.path.join(name, f) for f in sorted(os.listdir(name)) if f.lower().endswith(IMAGE_SUFFIXES)]
        else:
            found = [name] if os.path.isfile(name) else sorted(glob(name, recursive=True))
        if not found and os.path.isdir(name):
            raise DataError(f"the folder {name} contains no images ({', '.join(IMAGE_SUFFIXES)})")
        if not found:
            raise DataError(f"there is no image {name}")
        paths += found
    return paths


def read_image(path: str) -> np.ndarray:
    """Return an image, (H, W, 3) uint8 in BGR order, rotated according to its EXIF data.

    Raises:
        DataError: There is no such file, or it cannot be read as an image.
    """
    if not os.path.isfile(path):
        raise DataError(f"there is no image {path}")
    try:
        return read_with_detectron2(path, "BGR")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is not a readable image (damaged, or of an unknown format): {error}") from error
