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
from ..formats.labelme import NO_CLASSES, labelme_of_image
from ..formats.objects import AnnotatedImage, Lost, coco_content
from ..formats.yolo import yolo_of_image
from .detection import LABELS, MAPS_JSON, YOLO_YAML, peek
from .folders import progress
from .readers import Dataset

Files = Iterator[tuple[str, bytes]]  # path below the output folder, and content

COCO_JSON = "annotations.json"
VOC_COLORS, VOC_LIST = "labelmap.txt", "ImageSets/Segmentation/default.txt"
CITYSCAPES_FILES = ("instanceIds.png", "labelIds.png", "polygons.json")  # ends of their names


class Writer(NamedTuple):
    """How a format is written; all paths are below the output folder.

    Attributes:
        files: Yields the files for a dataset; its arguments are the dataset, what to add lost things to, and the path
            that each image has as seen from the folder of the output.
        folder: Folder of the images in the output folder.
        image_path: Returns where the format has an image.
        own: Returns the paths of the files of an image, without the image itself.
        shared: Paths of the files of the dataset.
        patterns: Patterns of ``own``.
        is_own: Returns whether a file that fits a pattern is of this format.
        reads_folder: Whether every image below ``folder`` belongs to the dataset, also one without a file of its own.
    """

    files: Callable[[Dataset, Lost, Callable[[AnnotatedImage], str]], Files]
    folder: str
    image_path: Callable[[AnnotatedImage], str]
    own: Callable[[AnnotatedImage], list[str]]
    shared: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    is_own: Callable[[str], bool] = lambda path: True
    reads_folder: bool = False


def _labelme_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    _check_lines(data.class_names, LABELS)
    reserved = [x for x in data.class_names if x in NO_CLASSES]
    if reserved:
        raise DataError(f"the class name '{reserved[0]}' stands for no class in labelme: rename it")
    for image in progress(data.images, "writing"):
        folder = os.path.dirname(image.file_name)
        name = os.path.relpath(image_path(image), folder or ".").replace(os.sep, "/")
        (path,) = _labelme_own(image)
        yield path, _json(labelme_of_image(image, name))
    yield LABELS, "".join(f"{name}\n" for name in data.class_names).encode()


def _labelme_own(image: AnnotatedImage) -> list[str]:
    return [f"{image.stem}.json"]


def _yolo_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    _check_encoding(data.class_names, YOLO_YAML)
    numbers = {name: i for i, name in enumerate(data.class_names)}
    for image in progress(data.images, "writing"):
        lines = yolo_of_image(image, numbers, lost)
        (path,) = _yolo_own(image)
        yield path, "".join(x + "\n" for x in lines).encode()
    names = "".join(f"  {i}: {json.dumps(name, ensure_ascii=False)}\n" for name, i in numbers.items())
    yield YOLO_YAML, f"path: .\ntrain: images\nval: images\nnames:\n{names}".encode()


def _yolo_own(image: AnnotatedImage) -> list[str]:
    return [f"labels/{image.stem}.txt"]


def _voc_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    if len(data.class_names) > MAX_VOC_OBJECTS:
        raise DataError(
            f"VOC's masks hold {MAX_VOC_OBJECTS} classes, not {len(data.class_names)}: choose another format"
        )
    _check_lines(data.class_names, VOC_COLORS, comment="#")
    numbers = {name: i for i, name in enumerate(data.class_names, 1)}
    for image in progress(data.images, "writing"):
        yield from zip(_voc_own(image), voc_of_image(image, numbers, lost), strict=True)
    lines = [f"{name}:{','.join(map(str, voc_color(i)))}::" for i, name in enumerate(["background", *data.class_names])]
    yield VOC_COLORS, "\n".join(["# label:color_rgb:parts:actions", *lines, ""]).encode()
    yield VOC_LIST, b"".join(os.fsencode(f"{x.stem}\n") for x in data.images)


def _voc_own(image: AnnotatedImage) -> list[str]:
    return [f"SegmentationClass/{image.stem}.png", f"SegmentationObject/{image.stem}.png"]


def _map_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    entries = []
    for image in progress(data.images, "writing"):
        content, instances = map_of_image(image, lost)
        (path,) = _map_own(image)
        entries.append({"file_name": image.file_name, "map": path, "instances": instances})
        yield path, content
    yield MAPS_JSON, _json({"classes": data.class_names, "images": entries})


def _map_own(image: AnnotatedImage) -> list[str]:
    return [f"maps/{image.stem}.png"]


def _cityscapes_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    unknown = sorted({x.name for image in data.images for x in image.objects} - CITYSCAPES_CLASSES.keys())
    if unknown:
        raise DataError(
            f"Cityscapes has no class '{unknown[0]}' with objects, only {', '.join(CITYSCAPES_CLASSES)}: rename or "
            "drop it, or choose another format"
        )
    for image in progress(data.images, "writing"):
        instances, labels, document = cityscapes_of_image(image, lost)
        yield from zip(_cityscapes_own(image), (instances, labels, _json(document)), strict=True)


def _cityscapes_own(image: AnnotatedImage) -> list[str]:
    return [f"gtFine/{_cityscapes_stem(image)}_gtFine_{x}" for x in CITYSCAPES_FILES]


def _cityscapes_stem(image: AnnotatedImage) -> str:
    """Return split, city and name of an image; where it lies in fewer folders, these are "train" and "default"."""
    *folders, name = image.stem.removesuffix("_leftImg8bit").split("/")
    return "/".join([*["train", "default"][: max(2 - len(folders), 0)], *folders, name])


def _coco_files(data: Dataset, lost: Lost, image_path: Callable[[AnnotatedImage], str]) -> Files:
    yield COCO_JSON, _json(coco_content(data.images, data.class_names))


def _in_images(image: AnnotatedImage) -> str:
    return f"images/{image.file_name}"


WRITERS: dict[str, Writer] = {
    "coco": Writer(_coco_files, "images", _in_images, lambda x: [], (COCO_JSON,)),
    "labelme": Writer(
        _labelme_files,
        "",
        lambda x: x.file_name,
        _labelme_own,
        (LABELS,),
        ("**/*.json",),
        is_own=lambda path: "shapes" in peek(path),
    ),
    "yolo": Writer(_yolo_files, "images", _in_images, _yolo_own, (YOLO_YAML,), ("labels/**/*.txt",), reads_folder=True),
    "voc": Writer(
        _voc_files,
        "JPEGImages",
        lambda x: f"JPEGImages/{x.file_name}",
        _voc_own,
        (VOC_COLORS, VOC_LIST),
        ("SegmentationClass/**/*.png", "SegmentationObject/**/*.png"),
    ),
    "maps": Writer(_map_files, "images", _in_images, _map_own, (MAPS_JSON,), ("maps/**/*.png",)),
    "cityscapes": Writer(
        _cityscapes_files,
        "leftImg8bit",
        lambda x: f"leftImg8bit/{_cityscapes_stem(x)}_leftImg8bit.png",
        _cityscapes_own,
        (),
        tuple(f"gtFine/**/*_gtFine_{x}" for x in CITYSCAPES_FILES),
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
