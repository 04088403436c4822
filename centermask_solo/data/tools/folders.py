"""Files in the folders of datasets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from ...utils.errors import ConfigError, DataError
from ..formats.objects import AnnotatedImage, Object
from ..images import IMAGE_SUFFIXES

Read = tuple[list[AnnotatedImage], Sequence[str] | None, str]  # images, class names if known, folder of the images


def image_of_map(name: str, root: str, ids: Any, objects: list[Object]) -> AnnotatedImage:
    """Return the image whose map has a name: that with this stem in the folder of the images."""
    stem = os.path.splitext(name)[0]
    found = (stem + x for x in IMAGE_SUFFIXES if os.path.isfile(os.path.join(root, stem + x)))
    file_name = next(found, "")
    if not file_name:
        raise DataError(f"the image of the map {name} is missing in {root}: give the folder of the images by --images")
    return AnnotatedImage(file_name, ids.shape[1], ids.shape[0], objects, os.path.join(root, file_name))


def check_image_folder(path: str) -> None:
    """Raise ConfigError unless a path, given as the folder of the images, is that of a folder."""
    if not os.path.isdir(path):
        what = "is no folder" if os.path.exists(path) else "does not exist"
        raise ConfigError(f"{path}, given as the folder of the images, {what}: correct the path")


def files_below(folder: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return the files of a folder and its subfolders, sorted, hidden ones left out."""
    return sorted(
        os.path.join(path, x)
        for path, _, files in os.walk(folder)
        for x in files
        if not x.startswith(".") and x.lower().endswith(tuple(s.lower() for s in suffixes))
    )


def below(path: str, folder: str) -> str:
    return os.path.relpath(path, folder).replace(os.sep, "/")


def progress(items: Sequence[Any], what: str = "reading") -> Iterable[Any]:
    """Return the items with a progress bar, where a person may see it."""
    return tqdm(items, what, unit_scale=True, mininterval=1.0, leave=False, disable=None)
