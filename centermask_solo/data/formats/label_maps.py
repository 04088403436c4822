"""Formats that hold an image's objects as maps of numbers: Pascal VOC's masks, PNG instance maps, and Cityscapes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...structures.outlines import trace_outlines
from ...utils.errors import DataError
from ...utils.text import counted
from .objects import BOXES, AnnotatedImage, Lost, Object, codes_of_map, mask_of

VOID = 255  # in VOC's masks: neither object nor background
MAX_VOC_OBJECTS = 254
MAX_MAP_OBJECTS = 65_535  # of 16 bits
IDS_PER_CLASS = 1000  # in Cityscapes: class * 1000 + number of the object, or the class alone for a group
COVERED = "objects partly under others (only what is visible remains)"
HIDDEN = "objects wholly under others, or without a pixel (left out)"

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
CITYSCAPES_CLASSES = {  # those with instances, and their numbers
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "caravan": 29,
    "trailer": 30,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}

Map = NDArray[np.int32]


def png(pixels: NDArray[Any]) -> bytes:
    """Return a map of uint8 or uint16, (H, W), as the content of a PNG file."""
    return bytes(cv2.imencode(".png", pixels)[1])


def indexed_png(numbers: NDArray[np.uint8]) -> bytes:
    """Return a map, (H, W), as the content of a PNG file with VOC's colors for the numbers."""
    image = Image.fromarray(numbers)
    image.putpalette([x for number in range(256) for x in voc_color(number)])
    with io.BytesIO() as file:
        image.save(file, format="PNG")
        return file.getvalue()


def voc_color(number: int) -> list[int]:
    """Return red, green and blue of a number in VOC's masks."""
    return [sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]


def numbers_of_colors(pixels: NDArray[Any], colors: dict[int, list[int]], path: str) -> NDArray[np.int64]:
    """Return the number of each pixel's color, (H, W).

    Args:
        pixels: (H, W, 3 or 4) in RGB order.
        colors: Red, green and blue of each number.
        path: Path of the image, for messages.

    Raises:
        DataError: A pixel has another color.
    """
    place = np.array([1 << 16, 1 << 8, 1])
    found, where = np.unique(pixels[:, :, :3] @ place, return_inverse=True)
    number_of = {int(np.dot(color, place)): number for number, color in reversed(colors.items())}
    unknown = [x for x in found.tolist() if x not in number_of]
    if unknown:
        color = tuple(unknown[0] >> shift & 255 for shift in (16, 8, 0))
        raise DataError(f"{path} has the color {color}, which stands for nothing: correct labelmap.txt or the image")
    return np.array([number_of[x] for x in found.tolist()])[where].reshape(pixels.shape[:2])


def paint(image: AnnotatedImage, lost: Lost, *, crowds_are_void: bool = False) -> tuple[Map, list[Object]]:
    """Return a map of the objects' numbers, from 1, and the objects in the order of these numbers.

    Smaller objects are on top of larger ones.

    Args:
        image: Image with its objects.
        lost: Counts what the map cannot hold.
        crowds_are_void: Whether crowds are -1 in the map, below all objects, instead of objects like others.
    """
    found: Map = np.zeros((image.height, image.width), np.int32)
    masked: list[tuple[Object, NDArray[np.bool_]]] = []
    for x in image.objects:
        if not x.segmentation:
            lost[BOXES] += 1
            continue
        mask = mask_of(x.segmentation, image.height, image.width)
        if x.crowd and crowds_are_void:
            found[mask] = -1
        else:
            masked.append((x, mask))
    masked.sort(key=lambda pair: -int(pair[1].sum()))
    for i, (_, mask) in enumerate(masked, 1):
        found[mask] = i
    visible = np.bincount(np.maximum(found, 0).ravel(), minlength=len(masked) + 1).tolist()
    for i, (_, mask) in enumerate(masked, 1):
        lost[COVERED] += 0 < visible[i] < int(mask.sum())
        lost[HIDDEN] += not visible[i]
    return found, [x for x, _ in masked]


def voc_of_image(image: AnnotatedImage, class_numbers: Mapping[str, int], lost: Lost) -> tuple[bytes, bytes]:
    """Return the PNG files of an image for SegmentationClass and SegmentationObject, with VOC's colors.

    Args:
        image: Image with its objects.
        class_numbers: Number of each class, from 1 to 254.
        lost: Counts what is lost, such as crowds, which become void.

    Raises:
        DataError: It has more than 254 objects.
    """
    lost["crowd regions (void)"] += sum(x.crowd for x in image.objects)
    ids, objects = paint(image, lost, crowds_are_void=True)
    _check_count(image, objects, MAX_VOC_OBJECTS, "VOC's masks")
    numbers = np.array([0, *(class_numbers[x.name] for x in objects), VOID], np.uint8)  # -1 is the last
    return indexed_png(numbers[ids]), indexed_png(np.where(ids < 0, VOID, ids).astype(np.uint8))


def read_voc(classes: NDArray[Any], ids: NDArray[Any], names: Sequence[str], path: str) -> list[Object]:
    """Return the objects of an image's two maps, (H, W); pixels that are void in either are of no object.

    Args:
        classes: Number of each pixel's class, from 1.
        ids: Number of each pixel's object, from 1.
        names: Names of the classes.
        path: Path of the map of objects, for messages.

    Raises:
        DataError: The maps do not fit together, or a class has no name.
    """
    if classes.shape != ids.shape:
        raise DataError(f"{path} and its map of classes have different sizes, {ids.shape} and {classes.shape}")
    usable = np.where((ids == VOID) | (classes == VOID) | (classes == 0), 0, ids).astype(np.int64)
    joined = usable * 256 + classes * (usable > 0)
    objects = []
    for value, code in codes_of_map(joined).items():
        number = value % 256
        if number > len(names):
            raise DataError(f"{path} has class {number}, but {counted(len(names), 'name')} known: give --class-names")
        objects.append(Object(names[number - 1], code))
    return objects


def map_of_image(image: AnnotatedImage, lost: Lost) -> tuple[bytes, list[dict[str, Any]]]:
    """Return the PNG instance map of an image, 16 bits, and the entries of its objects in ``instances.json``.

    Raises:
        DataError: It has more than 65,535 objects.
    """
    ids, objects = paint(image, lost)
    _check_count(image, objects, MAX_MAP_OBJECTS, "a map of 16 bits")
    entries = [{"id": i, "class": x.name, "iscrowd": int(x.crowd)} for i, x in enumerate(objects, 1)]
    return png(ids.astype(np.uint16)), entries


def read_map(ids: NDArray[Any], entries: Sequence[Mapping[str, Any]] | None, name: str, path: str) -> list[Object]:
    """Return the objects of a PNG instance map.

    Args:
        ids: Number of each pixel's object, (H, W), 0 for background.
        entries: "id", "class" and "iscrowd" of each; None if they are not known.
        name: Class of all objects in the latter case.
        path: Path of the map, for messages.

    Raises:
        DataError: A number has no entry.
    """
    known = None if entries is None else {x["id"]: x for x in entries}
    objects = []
    for number, code in codes_of_map(ids).items():
        if known is not None and number not in known:
            raise DataError(f"{path} has the object {number}, which instances.json lacks: add it")
        entry = {"class": name} if known is None else known[number]
        objects.append(Object(str(entry["class"]), code, crowd=bool(entry.get("iscrowd", 0))))
    return objects


def cityscapes_of_image(image: AnnotatedImage, lost: Lost) -> tuple[bytes, bytes, dict[str, Any]]:
    """Return an image's instanceIds and labelIds as PNG files, and its polygons; its classes are Cityscapes's.

    Raises:
        DataError: An image has more than 1,000 objects of a class.
    """
    ids, objects = paint(image, lost)
    counts = dict.fromkeys(CITYSCAPES_CLASSES, 0)
    values, labels, polygons = [0], [0], []
    for i, x in enumerate(objects, 1):
        number = CITYSCAPES_CLASSES[x.name]
        values.append(number if x.crowd else number * IDS_PER_CLASS + counts[x.name])
        labels.append(number)
        counts[x.name] += not x.crowd
        found = trace_outlines(ids == i)
        lost["holes in Cityscapes's polygons (kept in instanceIds)"] += len(found.holes)
        for part in found.parts:
            points = np.reshape(part, (-1, 2)).astype(int).tolist()
            polygons.append({"label": x.name + "group" * x.crowd, "polygon": points})
    for name, count in counts.items():
        if count > IDS_PER_CLASS:
            raise DataError(
                f"{image.file_name} has {counted(count, 'object')} of {name}, but Cityscapes holds 1,000 of a class"
            )
    document = {"imgHeight": image.height, "imgWidth": image.width, "objects": polygons}
    return png(np.array(values, np.uint16)[ids]), png(np.array(labels, np.uint8)[ids]), document


def read_cityscapes(ids: NDArray[Any]) -> list[Object]:
    """Return the objects of instanceIds, (H, W): groups are crowds, and classes without objects are left out."""
    names = {number: name for name, number in CITYSCAPES_CLASSES.items()}
    objects = []
    for value, code in codes_of_map(ids).items():
        number = value // IDS_PER_CLASS if value >= IDS_PER_CLASS else value
        if number in names:
            objects.append(Object(names[number], code, crowd=value < IDS_PER_CLASS))
    return objects


def _check_count(image: AnnotatedImage, objects: Sequence[Object], limit: int, what: str) -> None:
    if len(objects) > limit:
        raise DataError(f"{image.file_name} has {len(objects)} objects, but {what} hold {limit}: choose another format")
