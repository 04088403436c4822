"""Read a dataset in any of the known formats."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ...utils.errors import DataError
from ...utils.reading import read_text, reading
from ...utils.yaml import DAMAGED, load_yaml
from ..class_names import read_class_names
from ..formats.label_maps import CITYSCAPES_CLASSES, VOC_CLASSES, read_cityscapes, read_map, read_voc
from ..formats.labelme import read_labelme
from ..formats.objects import AnnotatedImage, Lost, Object, annotated_images, class_names_of
from ..formats.yolo import read_yolo
from ..images import IMAGE_SUFFIXES, read_labels, stated_size
from .detection import LABELS, MAPS_JSON, coco_jsons, find_format, peek


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
    source: str, file_format: str = "", image_root: str = "", class_names: Sequence[str] | None = None
) -> Dataset:
    """Return a dataset of any format.

    Args:
        source: A folder, or COCO's json.
        file_format: A key of ``READERS``; "" to find out.
        image_root: Folder of the images, where it is neither the source nor below it.
        class_names: Names of the classes, in order, where the format has none, or only these and in this order.

    Raises:
        DataError: It cannot be read, or its format cannot be told.
    """
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
    lost = Lost()
    images, names, root = READERS[file_format](source, image_root, class_names, lost)
    if not images:
        raise DataError(f"{source} has no images in the format {file_format}: correct the path or the format")
    return Dataset(images, class_names_of(images, class_names or names, source), root, lost)


_Read = tuple[list[AnnotatedImage], Sequence[str] | None, str]


def _read_coco(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> _Read:
    from ..validation.gate import inspect_file, refuse_errors  # which reads this package's formats

    data, found = inspect_file(source)
    refuse_errors(found, source, image_root, masks=False, allow_empty=True)
    if found.needs_repair:
        from ..validation.repair import repair

        repaired = repair(data, found, image_root, masks=False)
        data = data._replace(images=repaired["images"], annotations=repaired["annotations"])
    root = image_root or os.path.dirname(source) or "."
    return list(annotated_images(data, root, lost)), data.classes, root


def _read_labelme(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> _Read:
    found: list[tuple[str, dict[str, Any], list[Object]]] = []
    for path in progress(_files_below(source, (".json",))):
        with reading(path):
            try:
                document = json.loads(read_text(path))
            except json.JSONDecodeError as error:
                raise DataError(f"{path} is not JSON, or truncated ({error}): save it again in labelme") from error
        if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
            lost["json files that are not labelme's (left out)"] += 1
            continue
        image_path = _labelme_image(path, str(document.get("imagePath") or ""), image_root)
        if not document.get("imageHeight") or not document.get("imageWidth"):
            document["imageWidth"], document["imageHeight"] = stated_size(image_path)
        found.append((image_path, document, read_labelme(document, path, lost)))
    root = image_root or _common_root(source, [path for path, _, _ in found])
    images = [
        AnnotatedImage(_below(path, root), x["imageWidth"], x["imageHeight"], objects, path)
        for path, x, objects in found
    ]
    labels = Path(source, LABELS)
    names = read_class_names([str(labels)]) if labels.is_file() and not class_names else None
    return images, names, root


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
    found = next(filter(os.path.isfile, places), places[0])
    return os.path.normpath(found)


def _common_root(source: str, paths: Sequence[str]) -> str:
    """Return the source if all images are below it, or else the folder that they share."""
    root = os.path.abspath(source)
    if all(os.path.abspath(x).startswith(os.path.join(root, "")) for x in paths):
        return source
    return os.path.commonpath([os.path.dirname(os.path.abspath(x)) for x in paths])


def _read_yolo(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> _Read:
    names = class_names or _yolo_names(source)
    folder = image_root or (os.path.join(source, "images") if os.path.isdir(os.path.join(source, "images")) else source)
    images = []
    for path in progress(_files_below(folder, IMAGE_SUFFIXES)):
        width, height = stated_size(path)
        label = next(filter(os.path.isfile, _yolo_labels(path, source, folder)), "")
        objects = read_yolo(read_text(label), label, names, width, height) if label else []
        images.append(AnnotatedImage(_below(path, folder), width, height, objects, path))
    return images, names, folder


def _yolo_labels(path: str, source: str, folder: str) -> Iterator[str]:
    """Yield where the text file of an image may be: below "labels" in place of "images", or beside it."""
    stem = os.path.splitext(path)[0]
    parts = Path(stem).parts
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            yield os.path.join(*parts[:i], "labels", *parts[i + 1 :]) + ".txt"
    yield os.path.join(source, "labels", _below(stem, folder)) + ".txt"
    yield os.path.join(source, _below(stem, folder)) + ".txt"
    yield stem + ".txt"


def _yolo_names(source: str) -> list[str]:
    """Return the class names of a YOLO dataset, from the yaml or the text file in its folder or above it."""
    folders = [Path(source).absolute(), *Path(source).absolute().parents][:3]
    for folder in folders:
        for path in [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))]:
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
    raise DataError(f"{source} has no data.yaml with 'names' and no classes.txt: give the names with --class-names")


def _read_voc(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> _Read:
    names = class_names or _voc_names(source)
    folder, root = os.path.join(source, "SegmentationObject"), image_root or os.path.join(source, "JPEGImages")
    images = []
    for path in progress(_files_below(folder, (".png",))):
        name = _below(path, folder)
        ids = read_labels(path)
        objects = read_voc(read_labels(os.path.join(source, "SegmentationClass", name)), ids, names, path)
        images.append(_image_of_map(name, root, ids, objects))
    return images, names, root


def _voc_names(source: str) -> list[str]:
    """Return the names in ``labelmap.txt``, lines such as "cat:64,0,0::" after that of the background, or VOC's own."""
    path = os.path.join(source, "labelmap.txt")
    if not os.path.isfile(path):
        return list(VOC_CLASSES)
    lines = [x for x in read_text(path).splitlines() if x.strip() and not x.startswith("#")]
    names = [x.rsplit(":", 3)[0] for x in lines]
    return [x for x in names if x not in ("background", "void")]


def _read_maps(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> _Read:
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


def _read_bare_maps(source: str, image_root: str, class_names: Sequence[str] | None) -> _Read:
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
    for path in progress(_files_below(folder, (".png", ".tif", ".tiff"))):
        ids = read_labels(path)
        images.append(_image_of_map(_below(path, folder), image_root, ids, read_map(ids, None, class_names[0], path)))
    return images, class_names, image_root


def _read_cityscapes(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> _Read:
    root = image_root or os.path.join(source, "leftImg8bit")
    folder = os.path.join(source, "gtFine") if os.path.isdir(os.path.join(source, "gtFine")) else source
    images = []
    for path in progress(_files_below(folder, ("_gtFine_instanceIds.png",))):
        name = _below(path, folder).replace("_gtFine_instanceIds.png", "_leftImg8bit.png")
        ids = read_labels(path)
        height, width = ids.shape
        images.append(AnnotatedImage(name, width, height, read_cityscapes(ids), os.path.join(root, name)))
    return images, [*CITYSCAPES_CLASSES] if images else None, root


READERS: dict[str, Callable[[str, str, Sequence[str] | None, Lost], _Read]] = {
    "coco": _read_coco,
    "labelme": _read_labelme,
    "yolo": _read_yolo,
    "voc": _read_voc,
    "maps": _read_maps,
    "cityscapes": _read_cityscapes,
}


def _image_of_map(name: str, root: str, ids: Any, objects: list[Object]) -> AnnotatedImage:
    """Return the image whose map has a name: that with this stem in the folder of the images."""
    stem = os.path.splitext(name)[0]
    found = (stem + x for x in IMAGE_SUFFIXES if os.path.isfile(os.path.join(root, stem + x)))
    file_name = next(found, "")
    if not file_name:
        raise DataError(f"the image of the map {name} is missing in {root}: give the folder of the images by --images")
    return AnnotatedImage(file_name, ids.shape[1], ids.shape[0], objects, os.path.join(root, file_name))


def _files_below(folder: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return the files of a folder and its subfolders, sorted, hidden ones left out."""
    return sorted(
        os.path.join(path, x)
        for path, _, files in os.walk(folder)
        for x in files
        if not x.startswith(".") and x.lower().endswith(tuple(s.lower() for s in suffixes))
    )


def _below(path: str, folder: str) -> str:
    return os.path.relpath(path, folder).replace(os.sep, "/")


def progress(items: Sequence[Any], what: str = "reading") -> Iterable[Any]:
    """Return the items with a progress bar, where a person may see it."""
    return tqdm(items, what, unit_scale=True, mininterval=1.0, leave=False, disable=None)
