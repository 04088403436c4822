"""Annotated images between formats: every reader yields them, every writer takes them, and COCO's json holds them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from ...structures.outlines import Polygon, join_polygons, trace_outlines
from ...structures.rle_codes import Code, code_of
from ...utils.errors import DataError
from ...utils.text import name_some
from .clipping import clip_polygon
from .coco import CocoData
from .packing import Record

Segmentation = list[Polygon] | Code  # as in COCO's format
Lost = Counter[str]  # what a format cannot hold, and how often
_KNOWN = {"id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd"}
_KNOWN_OF_IMAGES, _KNOWN_OF_CLASSES = {"id", "file_name", "width", "height"}, {"id", "name"}

_ENTRIES = "entries '"  # how a loss is called that is entries of COCO's json
CROWDS = "crowd regions (left out)"
BOXES = "objects without a mask (left out)"


class Object(NamedTuple):
    """An annotated object.

    Attributes:
        name: Name of its class.
        segmentation: Polygons, or the compressed code of its mask; [] if it has only a box.
        box: x, y, width and height in pixels; None for that of the segmentation.
        crowd: Whether it is a region with a crowd.
    """

    name: str
    segmentation: Segmentation
    box: list[float] | None = None
    crowd: bool = False


class AnnotatedImage(NamedTuple):
    """An image and its objects.

    Attributes:
        file_name: Path below the folder of images, with slashes.
        width: In pixels.
        height: In pixels.
        objects: In the order of the annotations.
        path: Path of the image file; it may be missing.
        inside: Path of the file of labelme that has the image inside, where the image file is missing; or "".
    """

    file_name: str
    width: int
    height: int
    objects: list[Object]
    path: str
    inside: str = ""

    @property
    def stem(self) -> str:
        """``file_name`` without its suffix."""
        return os.path.splitext(self.file_name)[0]


def mask_of(segmentation: Segmentation, height: int, width: int) -> NDArray[np.bool_]:
    """Return the pixels of a segmentation, (H, W), by COCO's rules."""
    return np.asarray(rle.decode(code_of(segmentation, height, width)), dtype=bool)


def codes_of_map(ids: NDArray[Any]) -> dict[int, Code]:
    """Return the code of each number's pixels in a map, (H, W); 0 is background."""
    height, width = ids.shape
    columns = ids.T.ravel()  # column by column, as codes are
    order = np.argsort(columns, kind="stable")
    numbers, starts = np.unique(columns[order], return_index=True)
    codes = {}
    for number, places in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        if number == 0:
            continue
        breaks = np.flatnonzero(np.diff(places) != 1)
        begins, ends = places[np.r_[0, breaks + 1]], places[np.r_[breaks, len(places) - 1]] + 1
        changes = np.stack([begins, ends], axis=1).ravel()
        counts = np.diff(changes, prepend=0, append=height * width)
        codes[number] = code_of({"size": [height, width], "counts": counts.tolist()}, height, width)
    return codes


def polygons_of(x: Object, image: AnnotatedImage, lost: Lost, name: str) -> list[Polygon]:
    """Return polygons in the image that, filled by the even-odd rule, have the pixels of an object.

    Args:
        x: An object with a segmentation.
        image: Its image.
        lost: Counts what changes.
        name: What becomes of parts and holes in the format, such as "joined by bridges without width".
    """
    size = image.height, image.width
    if not isinstance(x.segmentation, dict):
        lost[f"objects of several parts ({name})"] += len(x.segmentation) > 1
        inside = list(filter(None, (clip_polygon(p, image.width, image.height) for p in x.segmentation)))
        if len(inside) == 1 and inside == x.segmentation:
            return inside
        whole = mask_of(x.segmentation, *size)
        if inside and np.array_equal(mask_of([join_polygons(inside)], *size), whole):
            return inside
        found = trace_outlines(whole)  # parts overlap, or corners at the border are rounded otherwise
        return found.parts + found.holes
    found = trace_outlines(mask_of(x.segmentation, *size))
    lost[f"objects of several parts ({name})"] += len(found.parts) > 1
    lost[f"objects with holes ({name})"] += bool(found.holes)
    return found.parts + found.holes


def coco_content(images: Iterable[AnnotatedImage], class_names: Sequence[str]) -> Record:
    """Return the content of a COCO json; images, annotations and categories are numbered from 1.

    Args:
        images: Images whose objects have classes among these.
        class_names: Names of the classes, in order.
    """
    content: Record = {"info": {}, "images": [], "annotations": []}
    content["categories"] = [{"id": i, "name": name} for i, name in enumerate(class_names, 1)]
    class_ids = {name: i for i, name in enumerate(class_names, 1)}
    for image_id, image in enumerate(images, 1):
        size = {"width": image.width, "height": image.height}
        content["images"].append({"id": image_id, "file_name": image.file_name, **size})
        for x in image.objects:
            place = {"id": len(content["annotations"]) + 1, "image_id": image_id, "category_id": class_ids[x.name]}
            content["annotations"].append({**place, **_shape(x, image), "iscrowd": int(x.crowd)})
    return content


def _shape(x: Object, image: AnnotatedImage) -> Record:
    """Return the box, the area and the segmentation of an object."""
    if not x.segmentation:
        _, _, width, height = x.box or [0, 0, 0, 0]
        return {"bbox": x.box, "area": width * height, "segmentation": []}
    code = code_of(x.segmentation, image.height, image.width)
    box = x.box
    if box is None and isinstance(x.segmentation, list):
        points = np.concatenate([np.reshape(p, (-1, 2)) for p in x.segmentation])
        low = np.clip(points.min(axis=0), 0, [image.width, image.height])
        high = np.clip(points.max(axis=0), 0, [image.width, image.height])
        box = [*low.tolist(), *(high - low).tolist()]
    elif box is None:
        box = [float(v) for v in rle.toBbox(code)]
    return {"bbox": box, "area": int(rle.area(code)), "segmentation": x.segmentation}


def annotated_images(data: CocoData, image_root: str, lost: Lost) -> Iterator[AnnotatedImage]:
    """Yield the images of a COCO json; what only COCO's format holds is added to ``lost``.

    Args:
        data: A file without faults.
        image_root: Folder of the images.
        lost: What is added to.
    """
    names = {x["id"]: x["name"] for x in data.categories}
    of_image = defaultdict(list)
    for i, x in enumerate(data.annotations):
        of_image[x["image_id"]].append(i)
        _count_others(x, _KNOWN, "objects", lost)
    for x in data.images:
        _count_others(x, _KNOWN_OF_IMAGES, "images", lost)
    for x in data.categories:
        _count_others(x, _KNOWN_OF_CLASSES, "classes", lost)
    for image in data.images:
        objects = [_object(data.annotations[i], image, names) for i in of_image[image["id"]]]
        file_name = image["file_name"].replace("\\", "/")
        path = os.path.join(image_root, file_name)
        yield AnnotatedImage(file_name, image["width"], image["height"], objects, path)


def _count_others(x: Record, known: set[str], of: str, lost: Lost) -> None:
    for key in x.keys() - known:
        lost[f"{_ENTRIES}{key}' of {of} (left out)"] += 1


def list_lost(lost: Mapping[str, int]) -> str:
    """Return what is lost as one short line: everything with its count, but entries that only COCO's json has by name.

    The counts of these, most of them one for each image, are in the summary.
    """
    items = [f"{name}: {count}" for name, count in lost.items() if not name.startswith(_ENTRIES)]
    entries = sorted({name.split("'")[1] for name in lost if name.startswith(_ENTRIES)})
    if entries:
        items.append(f"entries of COCO's json (left out): {name_some(entries)}")
    return name_some(items)


def _object(x: Record, image: Record, names: dict[int, str]) -> Object:
    found = x.get("segmentation") or []
    is_code = isinstance(found, dict)
    found = code_of(found, image["height"], image["width"]) if is_code else [list(p) for p in found]
    if is_code and not rle.area(found):
        found = []  # as repairs write it
    return Object(names[x["category_id"]], found, x["bbox"], bool(x.get("iscrowd", 0)))


def class_names_of(images: Iterable[AnnotatedImage], given: Sequence[str] | None, where: str) -> list[str]:
    """Return the names of all classes: those given, or those of the objects by alphabet.

    Raises:
        DataError: An object has another class than those given, or there is none.
    """
    found = {x.name for image in images for x in image.objects}
    if not given:
        if not found:
            raise DataError(f"{where} has no object to take class names from: give them with --class-names")
        return sorted(found)
    unknown = sorted(found - set(given))
    if unknown:
        raise DataError(f"{where} has the class '{unknown[0]}', which is not among the names given: add it")
    return list(given)
