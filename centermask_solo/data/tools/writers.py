"""Write a dataset in any of the known formats, an image at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ...utils.errors import DataError
from ...utils.text import printable
from ..formats.coco import plain_numbers
from ..formats.label_maps import (
    CITYSCAPES_CLASSES,
    MAX_VOC_OBJECTS,
    cityscapes_of_image,
    map_of_image,
    voc_color,
    voc_of_image,
)
from ..formats.labelme import labelme_of_image
from ..formats.objects import AnnotatedImage, Lost, coco_content
from ..formats.yolo import yolo_of_image
from .detection import LABELS, MAPS_JSON
from .folders import progress
from .readers import Dataset

Files = Iterator[tuple[str, bytes]]  # path below the output folder, and content


class Writer(NamedTuple):
    """How a format is written.

    Attributes:
        files: Yields the files for a dataset; its arguments are the dataset, what to add lost things to, and the path
            that each image has as seen from the folder of the output.
        folder: Folder of the images in the output folder.
        image_path: Returns where the format has an image.
        results: Patterns of the names of the files in the output folder.
    """

    files: Callable[[Dataset, Lost, Callable[[AnnotatedImage], str]], Files]
    folder: str
    image_path: Callable[[AnnotatedImage], str]
    results: tuple[str, ...]


def _labelme_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    _check_lines(data.class_names, LABELS)
    for image in progress(data.images, "writing"):
        folder = os.path.dirname(image.file_name)
        name = os.path.relpath(image_path(image), folder or ".").replace(os.sep, "/")
        yield image.stem + ".json", _json(labelme_of_image(image, name))
    yield LABELS, "".join(f"{name}\n" for name in data.class_names).encode()


def _yolo_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    _check_encoding(data.class_names, "data.yaml")
    numbers = {name: i for i, name in enumerate(data.class_names)}
    for image in progress(data.images, "writing"):
        lines = yolo_of_image(image, numbers, lost)
        yield f"labels/{image.stem}.txt", "".join(x + "\n" for x in lines).encode()
    names = "".join(f"  {i}: {json.dumps(name, ensure_ascii=False)}\n" for name, i in numbers.items())
    yield "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}".encode()


def _voc_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    if len(data.class_names) > MAX_VOC_OBJECTS:
        raise DataError(
            f"VOC's masks hold {MAX_VOC_OBJECTS} classes, not {len(data.class_names)}: choose another format"
        )
    _check_lines(data.class_names, "labelmap.txt", comment="#")
    numbers = {name: i for i, name in enumerate(data.class_names, 1)}
    for image in progress(data.images, "writing"):
        classes, objects = voc_of_image(image, numbers, lost)
        yield f"SegmentationClass/{image.stem}.png", classes
        yield f"SegmentationObject/{image.stem}.png", objects
    lines = [f"{name}:{','.join(map(str, voc_color(i)))}::" for i, name in enumerate(["background", *data.class_names])]
    yield "labelmap.txt", "\n".join(["# label:color_rgb:parts:actions", *lines, ""]).encode()
    yield "ImageSets/Segmentation/default.txt", b"".join(os.fsencode(f"{x.stem}\n") for x in data.images)


def _map_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    entries = []
    for image in progress(data.images, "writing"):
        content, instances = map_of_image(image, lost)
        entries.append({"file_name": image.file_name, "map": f"maps/{image.stem}.png", "instances": instances})
        yield f"maps/{image.stem}.png", content
    yield MAPS_JSON, _json({"classes": data.class_names, "images": entries})


def _cityscapes_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    unknown = sorted({x.name for image in data.images for x in image.objects} - CITYSCAPES_CLASSES.keys())
    if unknown:
        raise DataError(
            f"Cityscapes has no class '{unknown[0]}' with objects, only {', '.join(CITYSCAPES_CLASSES)}: rename or "
            "drop it, or choose another format"
        )
    for image in progress(data.images, "writing"):
        instances, labels, document = cityscapes_of_image(image, lost)
        stem = f"gtFine/{_cityscapes_stem(image)}_gtFine"
        yield f"{stem}_instanceIds.png", instances
        yield f"{stem}_labelIds.png", labels
        yield f"{stem}_polygons.json", _json(document)


def _cityscapes_stem(image: AnnotatedImage) -> str:
    """Return split, city and name of an image; where it lies in fewer folders, these are "train" and "default"."""
    *folders, name = image.stem.removesuffix("_leftImg8bit").split("/")
    return "/".join([*["train", "default"][: max(2 - len(folders), 0)], *folders, name])


def _coco_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    yield "annotations.json", _json(coco_content(data.images, data.class_names))


def _in_images(image: AnnotatedImage) -> str:
    return f"images/{image.file_name}"


WRITERS: dict[str, Writer] = {
    "coco": Writer(_coco_files, "images", _in_images, ("annotations.json",)),
    "labelme": Writer(_labelme_files, "", lambda x: x.file_name, ("**/*.json",)),
    "yolo": Writer(_yolo_files, "images", _in_images, ("data.yaml", "labels/**/*.txt")),
    "voc": Writer(
        _voc_files, "JPEGImages", lambda x: f"JPEGImages/{x.file_name}", ("labelmap.txt", "Segmentation*/**/*.png")
    ),
    "maps": Writer(_map_files, "images", _in_images, (MAPS_JSON, "maps/**/*.png")),
    "cityscapes": Writer(
        _cityscapes_files,
        "leftImg8bit",
        lambda x: f"leftImg8bit/{_cityscapes_stem(x)}_leftImg8bit.png",
        ("gtFine/**/*_gtFine_*",),
    ),
}


def _json(content: Any) -> bytes:
    r"""Return a json in UTF-8, with escapes such as ``\udce9`` only if a name in it has what UTF-8 cannot encode."""
    try:
        return json.dumps(content, ensure_ascii=False, default=plain_numbers).encode()
    except UnicodeEncodeError:
        return json.dumps(content, default=plain_numbers).encode()


def _check_encoding(names: Sequence[str], file: str) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"the class name '{printable(name)}' cannot be written to {file} in UTF-8: rename it"
            ) from None


def _check_lines(names: Sequence[str], file: str, comment: str = "") -> None:
    """Raise DataError unless names can be lines of a text file in UTF-8, and come back from it as they are."""
    _check_encoding(names, file)
    for name in names:
        if name.splitlines() != [name.strip()] or (comment and name.startswith(comment)):
            raise DataError(f"the class name {name!r} cannot be a line of {file}: rename it")
