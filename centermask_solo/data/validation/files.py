"""Check that the image files of a dataset exist, can be decoded and have the size that the json states."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from detectron2.utils.file_io import PathManager

from ...utils.errors import DataError
from ..formats.coco import Record
from ..images import MAX_PIXELS, check_image, exif_orientation
from . import rules
from .fields import has_file_name, has_size
from .findings import Findings
from .repair import repair_file_name


def check_files(
    images: Iterable[Record],
    image_root: str,
    findings: Findings,
    *,
    decode: bool,
    max_pixels: int = MAX_PIXELS,
    allow_outside: bool = False,
) -> None:
    """Find missing images and, if they are decoded, those that are damaged, of another size, or turned by EXIF data.

    Args:
        images: Entries of the json.
        image_root: Folder of the images.
        findings: What is added to.
        decode: Whether images are decoded.
        max_pixels: Most pixels of an image; 0 for no limit.
        allow_outside: Whether names may lead out of the folder.
    """
    is_outside = outside_test(image_root)
    for x, path, exists in _find(images, image_root):
        if not allow_outside and is_outside(path):
            findings.add(rules.OUTSIDE_PATH, path)
        elif not exists:
            findings.add(rules.MISSING_IMAGE, path)
        elif decode and has_size(x):
            try:
                check_image(path, (x["width"], x["height"]), max_pixels)
            except DataError as error:
                findings.add(rules.UNUSABLE_IMAGE, str(error))
            else:
                check_orientation(path, findings)


def outside_test(image_root: str) -> Callable[[str], bool]:
    """Return a function that tells whether the path of an image leads out of its folder, as named or by a link."""
    if "://" in image_root:
        return lambda path: False
    root = os.path.realpath(image_root)
    folders: dict[str, bool] = {}

    def is_inside(path: str) -> bool:
        return path == root or path.startswith(os.path.join(root, ""))

    def is_outside(path: str) -> bool:
        folder = os.path.dirname(path)
        if folder not in folders:
            folders[folder] = not is_inside(os.path.realpath(folder))
        return folders[folder] or (os.path.islink(path) and not is_inside(os.path.realpath(path)))

    return is_outside


def refuse_outside(paths: Iterable[str], image_root: str) -> None:
    """Raise DataError if the path of an image leads out of its folder."""
    outside = next(filter(outside_test(image_root), paths), None)
    if outside is not None:
        raise DataError(f"the image {outside} is outside of {image_root}: {rules.OUTSIDE_PATH.fix}")


def check_orientation(path: str, findings: Findings) -> None:
    """Find an image that is mirrored or turned upside down, so that its size does not show how it was annotated."""
    orientation = exif_orientation(path)
    if 2 <= orientation <= 4:
        findings.add(rules.TURNED_IMAGE, f"{path} (orientation {orientation})")


def image_path(x: Record, image_root: str) -> str:
    """Return the path of an image's file on this machine."""
    return PathManager.get_local_path(os.path.join(image_root, repair_file_name(x["file_name"], image_root)))


def _find(images: Iterable[Record], image_root: str) -> Iterator[tuple[Record, str, bool]]:
    """Yield each image with its path and whether it is there, from one listing per folder."""
    listed: dict[str, set[str]] = {}
    for x in images:
        if not has_file_name(x):
            continue
        path = os.path.join(image_root, repair_file_name(x["file_name"], image_root))
        folder, name = os.path.split(path)
        if folder not in listed:
            listed[folder] = set(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else set()
        yield x, path, name in listed[folder] or PathManager.isfile(path)
