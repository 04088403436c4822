"""Finding and reading the images to predict."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from glob import glob

from ..data.images import IMAGE_ERRORS, MAX_PIXELS, decode_image, reason
from ..data.pixels import Pixels
from ..utils.errors import DataError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".jp2", ".pgm", ".ppm")


def find_images(inputs: Sequence[str], recursive: bool = False) -> list[str]:
    """Return the image files that ``inputs`` name: files, folders (their images) and patterns.

    Images in subfolders that are not found are mentioned in the log. Hidden files of folders are left out, such as the
    "._1.jpg" that macOS writes beside a "1.jpg".

    Args:
        inputs: Files, folders and patterns.
        recursive: Whether the images in the subfolders of folders are found, too.

    Raises:
        DataError: One of them matches no file.
    """
    paths: list[str] = []
    for name in inputs:
        if os.path.isdir(name):
            found = _find_in_folder(name, recursive)
        else:
            found = [name] if os.path.isfile(name) else sorted(glob(name, recursive=True))
        if not found:
            raise DataError(f"there is no image {name}")
        paths += found
    return paths


def _find_in_folder(folder: str, recursive: bool) -> list[str]:
    found: list[str] = []
    num_below = 0
    for path, folders, names in os.walk(folder):
        folders.sort()
        shown = (x for x in sorted(names) if not x.startswith("."))
        images = [os.path.join(path, x) for x in shown if x.lower().endswith(IMAGE_SUFFIXES)]
        if recursive or path == folder:
            found += images
        else:
            num_below += len(images)
    hint = f"its subfolders contain {num_below}, which --recursive includes"
    if not found:
        raise DataError(f"the folder {folder} contains no images ({hint if num_below else ', '.join(IMAGE_SUFFIXES)})")
    if num_below:
        logger.warning("%s: %d images; %s", folder, len(found), hint)
    return found


def read_image(path: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return an image, (H, W, 3) uint8 in BGR order; see :func:`~centermask_solo.data.images.decode_image`.

    Args:
        path: Image file.
        max_pixels: Most pixels that are read; 0 for no limit.

    Raises:
        DataError: There is no such file, or it is too large or cannot be read as an image.
    """
    if not os.path.isfile(path):
        raise DataError(f"there is no image {path}")
    try:
        return decode_image(path, "BGR", max_pixels)
    except DataError:
        raise
    except IMAGE_ERRORS as error:
        raise DataError(
            f"{path} is not a readable image (damaged, or of an unknown format): {reason(error)}"
        ) from error
