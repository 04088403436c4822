"""Find the image files of a dataset: those that exist, in their folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from detectron2.utils.file_io import PathManager
from PIL import Image

from ...utils.errors import DataError
from ..formats.coco import Record
from ..images import exif_orientation
from . import image_rules
from .fields import has_file_name
from .findings import Findings
from .repair import repair_file_name


def find_files_of(
    images: Iterable[Record], image_root: str, findings: Findings, *, allow_outside: bool = False
) -> list[tuple[Record, str]]:
    """Find missing images and those out of their folder; return the others with their paths.

    Args:
        images: Entries of the json.
        image_root: Folder of the images.
        findings: What is added to.
        allow_outside: Whether names may lead out of the folder.
    """
    is_outside = outside_test(image_root)
    found, seen = [], set()
    for x, path, exists in _find(images, image_root):
        if path in seen:
            findings.add(image_rules.FILE_NAME_TWICE, path)
        seen.add(path)
        if not allow_outside and is_outside(path):
            findings.add(image_rules.OUTSIDE_PATH, path)
        elif not exists:
            findings.add(image_rules.MISSING_IMAGE, path)
        else:
            found.append((x, path))
    return found


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
        raise DataError(f"the image {outside} is outside of {image_root}: {image_rules.OUTSIDE_PATH.fix}")


def check_orientation(path: str, findings: Findings) -> None:
    """Find an image that is mirrored or turned upside down, so that its size does not show how it was annotated."""
    orientation = exif_orientation(path)
    if 2 <= orientation <= 4:
        findings.add(image_rules.TURNED_IMAGE, f"{path} (orientation {orientation})")


def image_path(x: Record, image_root: str) -> str:
    """Return the path of an image's file on this machine."""
    return PathManager.get_local_path(os.path.join(image_root, repair_file_name(x["file_name"], image_root)))


def find_unlisted(images: Iterable[Record], image_root: str, findings: Findings) -> None:
    """Find image files in the folders of the listed ones that are not listed themselves."""
    listed: dict[str, set[str]] = {}
    for _, path, _ in _find(images, image_root):
        folder, name = os.path.split(path)
        listed.setdefault(folder, set()).add(name)
    for folder, names in listed.items():
        for name in sorted(set(os.listdir(folder or ".")) - names) if os.path.isdir(folder or ".") else ():
            if os.path.splitext(name)[1].lower() in Image.registered_extensions() and not name.startswith("."):
                findings.add(image_rules.UNLISTED_IMAGE, os.path.join(folder, name))


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
