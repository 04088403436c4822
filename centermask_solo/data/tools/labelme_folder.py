"""Read folders of labelme's files, also of those that have their images inside."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from PIL import Image

from ...utils.errors import DataError
from ...utils.reading import read_text, reading
from ..class_names import read_class_names
from ..formats.labelme import NO_CLASSES, read_labelme
from ..formats.objects import AnnotatedImage, Lost
from ..images import IMAGE_ERRORS, IMAGE_SUFFIXES, stated_size
from .detection import LABELS
from .folders import Read, below, files_below, progress

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")  # suffixes of what labelme puts inside


def read_labelme_folder(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> Read:
    """Return the images of a folder of labelme's files, the names of its classes if it has them, and their folder."""
    images: list[AnnotatedImage] = []
    for path in progress(files_below(source, (".json",))):
        with reading(path):
            try:
                document = json.loads(read_text(path))
            except json.JSONDecodeError as error:
                raise DataError(f"{path} is not JSON, or truncated ({error}): save it again in labelme") from error
        if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
            lost["json files that are not labelme's (left out)"] += 1
            continue
        image_path, inside = _labelme_image(path, str(document.get("imagePath") or ""), image_root), ""
        if document.get("imageData") and not os.path.isfile(image_path):
            inside, image_path = path, _path_of_inside(path, image_path)
        if not document.get("imageHeight") or not document.get("imageWidth"):
            size = _size_inside(document, path) if inside else stated_size(image_path)
            document["imageWidth"], document["imageHeight"] = size
        objects = read_labelme(document, path, lost)
        size = document["imageWidth"], document["imageHeight"]
        images.append(AnnotatedImage("", *size, objects, image_path, inside))
    root = common_root(image_root or source, [x.path for x in images])
    images = [x._replace(file_name=below(x.path, root)) for x in images]
    labels = Path(source, LABELS)
    names = classes_of_labels(read_class_names([str(labels)])) if labels.is_file() and not class_names else None
    return images, names, root


def classes_of_labels(names: Sequence[str]) -> list[str]:
    """Return the classes in labelme's lists of labels, which begin with two that stand for none."""
    return [x for x in names if x not in NO_CLASSES]


def _labelme_image(path: str, name: str, image_root: str) -> str:
    """Return the image of a labelme file: where the file says, or else beside it or in the folder of the images."""
    folder, name = os.path.dirname(path), name.replace("\\", "/")
    stem = os.path.splitext(os.path.basename(path))[0]
    places = [os.path.join(folder, name)]
    for place in filter(None, (image_root, folder)):
        places += [
            os.path.join(place, os.path.basename(name)),
            *(os.path.join(place, stem + x) for x in IMAGE_SUFFIXES),
        ]
    expected = os.path.join(image_root, os.path.basename(name)) if image_root else places[0]
    found = next(filter(os.path.isfile, places), expected)
    return os.path.normpath(found)


def _path_of_inside(path: str, image_path: str) -> str:
    """Return where the image of a labelme file would be if it were beside it: under the name of that file."""
    suffix = os.path.splitext(image_path)[1].lower()
    return os.path.splitext(path)[0] + (suffix if suffix in PICTURES else ".png")


def _content_inside(document: dict[str, Any], path: str) -> bytes:
    try:
        return base64.b64decode(document["imageData"], validate=True)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: its imageData is no image in base64 ({error}): save it again in labelme") from error


def _size_inside(document: dict[str, Any], path: str) -> tuple[int, int]:
    """Return width and height of the image inside of a labelme file."""
    try:
        with Image.open(io.BytesIO(_content_inside(document, path))) as image:
            return image.size
    except IMAGE_ERRORS as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: its imageData is no readable image: save it again in labelme") from error


def open_image(image: AnnotatedImage) -> IO[bytes]:
    """Return the content of an image's file, or of what a labelme file has inside in its place.

    Raises:
        DataError: It is damaged.
        OSError: The file cannot be read.
    """
    if not image.inside:
        return open(image.path, "rb")
    document = json.loads(read_text(image.inside))
    _size_inside(document, image.inside)  # that it is an image
    return io.BytesIO(_content_inside(document, image.inside))


def common_root(folder: str, paths: Sequence[str]) -> str:
    """Return the folder that is expected to have all images if it has, or else the one that they share."""
    root = os.path.abspath(folder)
    if all(os.path.abspath(x).startswith(os.path.join(root, "")) for x in paths):
        return folder
    return os.path.commonpath([os.path.dirname(os.path.abspath(x)) for x in paths])
