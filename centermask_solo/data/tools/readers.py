"""Read a dataset in any of the known formats."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...utils.errors import DataError
from ...utils.reading import read_text
from ...utils.text import name_some
from ...utils.yaml import DAMAGED, load_yaml
from ..formats.label_maps import CITYSCAPES_CLASSES, read_cityscapes, read_map
from ..formats.objects import AnnotatedImage, Lost, annotated_images, class_names_of
from ..formats.yolo import read_yolo
from ..images import IMAGE_SUFFIXES, read_labels, stated_size
from .detection import MAPS_JSON, YOLO_YAML, coco_jsons, find_format, peek
from .folders import Read, below, check_image_folder, files_below, image_of_map, progress
from .labelme_folder import classes_of_labels, read_labelme_folder
from .voc_folder import read_voc_folder


class Dataset(NamedTuple):
    """A dataset in memory.

    Attributes:
        images: Images with their objects.
        class_names: Names of all classes, in order.
        image_root: Folder that the images' names are relative to.
        lost: What of the source is not here, and how often.
    """

    images: list[AnnotatedImage]
    class_names: list[str]
    image_root: str
    lost: Lost


def read_dataset(
    source: str,
    file_format: str = "",
    image_root: str = "",
    class_names: Sequence[str] | None = None,
    others: Sequence[str] | None = None,
) -> Dataset:
    """Return a dataset of any format.

    Args:
        source: A folder, or COCO's json.
        file_format: A key of ``READERS``; "" to find out.
        image_root: Folder of the images, where it is neither the source nor below it.
        class_names: Names of the classes, in order. Where the dataset has names itself, they say what its numbers mean,
            and must be among these.
        others: The same of other data, such as those to train on.

    Raises:
        ConfigError: There is no such folder of images.
        DataError: It cannot be read, its format cannot be told, or it has another class than those given.
    """
    if image_root:
        check_image_folder(image_root)
    file_format = file_format or find_format(source)
    if not os.path.exists(source):
        raise DataError(f"{source} is missing: correct the path")
    if file_format == "coco" and os.path.isdir(source):
        jsons = coco_jsons(source)
        if len(jsons) != 1:
            raise DataError(f"{source} has {len(jsons)} jsons in COCO's format: name the json instead of the folder")
        source = jsons[0]
    if file_format != "coco" and not os.path.isdir(source):
        raise DataError(f"{source} is a file: give the folder of the {file_format} dataset")
    if file_format == "labelme" and class_names:
        class_names = classes_of_labels(class_names)
    lost = Lost()
    images, names, root = READERS[file_format](source, image_root, class_names or others, lost)
    if not images:
        raise DataError(f"{source} has no images in the format {file_format}: correct the path or the format")
    unknown = sorted({x.name for image in images for x in image.objects} - set(others or ())) if others else ()
    if unknown and not class_names:
        raise DataError(
            f"{source} has the class '{unknown[0]}', which the data to train on lack "
            f"({name_some(list(others or ()))}): give the names of all classes by --class-names, in order"
        )
    return Dataset(images, class_names_of(images, class_names or others or names, source), root, lost)


def _read_coco(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> Read:
    from ..validation.gate import inspect_file, refuse_errors  # which reads this package's formats

    data, found = inspect_file(source)
    refuse_errors(found, source, image_root, masks=False, allow_empty=True)
    if found.needs_repair:
        from ..validation.repair import repair

        repaired = repair(data, found, image_root, masks=False)
        data = data._replace(images=repaired["images"], annotations=repaired["annotations"])
    root = image_root or os.path.dirname(source) or "."
    return list(annotated_images(data, root, lost)), data.classes, root


def _read_yolo(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> Read:
    names = _yolo_names(source) or class_names
    if not names:
        raise DataError(f"{source} has no data.yaml with 'names' and no classes.txt: give the names with --class-names")
    folder = image_root or (os.path.join(source, "images") if os.path.isdir(os.path.join(source, "images")) else source)
    images = []
    for path in progress(files_below(folder, IMAGE_SUFFIXES)):
        width, height = stated_size(path)
        label = next(filter(os.path.isfile, _yolo_labels(path, source, folder)), "")
        objects = read_yolo(read_text(label), label, names, width, height, lost) if label else []
        images.append(AnnotatedImage(below(path, folder), width, height, objects, path))
    return images, names, folder


def _yolo_labels(path: str, source: str, folder: str) -> Iterator[str]:
    """Yield where the text file of an image may be: below "labels" in place of "images", or beside it."""
    stem = os.path.splitext(path)[0]
    parts = Path(stem).parts
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            yield os.path.join(*parts[:i], "labels", *parts[i + 1 :]) + ".txt"
    yield os.path.join(source, "labels", below(stem, folder)) + ".txt"
    yield os.path.join(source, below(stem, folder)) + ".txt"
    yield stem + ".txt"


def _yolo_names(source: str) -> list[str] | None:
    """Return the class names of a YOLO dataset, from the yaml or the text file in its folder or above it, if any."""
    folders = [Path(source).absolute(), *Path(source).absolute().parents][:3]
    for folder in folders:
        yamls = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))]
        for path in sorted(yamls, key=lambda x: x.name != YOLO_YAML):
            try:
                content = load_yaml(read_text(str(path)))
            except DAMAGED as error:
                raise DataError(f"{path} is no YAML: correct it") from error
            names = content.get("names") if isinstance(content, dict) else None
            if isinstance(names, dict) and set(names) == set(range(len(names))):
                names = [names[i] for i in range(len(names))]
            if isinstance(names, list):
                return [str(x) for x in names]
        for path in (folder / "classes.txt", folder / "labels.txt"):
            if path.is_file():
                return [x.strip() for x in read_text(str(path)).splitlines() if x.strip()]
    return None


def _read_maps(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> Read:
    path = os.path.join(source, MAPS_JSON)
    if not os.path.isfile(path):
        return _read_bare_maps(source, image_root, class_names)
    content = peek(path)
    try:
        names, entries = [str(x) for x in content["classes"]], content["images"]
        root, images = image_root or os.path.join(source, "images"), []
        for x in progress(entries):
            file = os.path.join(source, x["map"])
            ids = read_labels(file)
            objects = read_map(ids, x["instances"], "", file)
            place = os.path.join(root, x["file_name"])
            images.append(AnnotatedImage(x["file_name"], ids.shape[1], ids.shape[0], objects, place))
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} lacks {error}: it needs 'classes' and 'images' with 'map' and 'instances'") from error
    return images, names, root


def _read_bare_maps(source: str, image_root: str, class_names: Sequence[str] | None) -> Read:
    """Read maps without a json, whose objects are all of one class."""
    maps, inside = (os.path.join(source, x) for x in ("maps", "images"))
    folder = maps if os.path.isdir(maps) else source  # where this package writes them, or as others have them
    image_root = image_root or (inside if folder == maps and os.path.isdir(inside) else "")
    if not class_names or len(class_names) != 1 or not image_root:
        raise DataError(
            f"{source} has no {MAPS_JSON}: give the one class of all objects with --class-names, and the folder of the "
            "images with --images"
        )
    images = []
    for path in progress(files_below(folder, (".png", ".tif", ".tiff"))):
        ids = read_labels(path)
        images.append(image_of_map(below(path, folder), image_root, ids, read_map(ids, None, class_names[0], path)))
    return images, class_names, image_root


def _read_cityscapes(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> Read:
    root = image_root or os.path.join(source, "leftImg8bit")
    folder = os.path.join(source, "gtFine") if os.path.isdir(os.path.join(source, "gtFine")) else source
    images = []
    for path in progress(files_below(folder, ("_gtFine_instanceIds.png",))):
        name = below(path, folder).replace("_gtFine_instanceIds.png", "_leftImg8bit.png")
        ids = read_labels(path)
        height, width = ids.shape
        images.append(AnnotatedImage(name, width, height, read_cityscapes(ids), os.path.join(root, name)))
    return images, [*CITYSCAPES_CLASSES] if images else None, root


READERS: dict[str, Callable[[str, str, Sequence[str] | None, Lost], Read]] = {
    "coco": _read_coco,
    "labelme": read_labelme_folder,
    "yolo": _read_yolo,
    "voc": read_voc_folder,
    "maps": _read_maps,
    "cityscapes": _read_cityscapes,
}
