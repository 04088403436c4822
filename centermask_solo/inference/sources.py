"""Find the images to predict."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from glob import glob

from ..data.images import IMAGE_SUFFIXES
from ..utils.errors import DataError

logger = logging.getLogger(__name__)


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
