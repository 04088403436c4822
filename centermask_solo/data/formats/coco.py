"""Read annotation files in COCO's format; whether their entries make sense is checked by ``data.validation``."""

from __future__ import annotations

import codecs
import json
import mmap
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

from detectron2.utils.file_io import PathManager

from ...utils.errors import ConfigError, DataError
from ...utils.memory import without_garbage_collection
from ...utils.reading import reading
from ...utils.text import counted
from .json_stream import read_lists
from .packing import PackedRecords, Record


class CocoData(NamedTuple):
    """The parts of a COCO annotation file."""

    images: list[Record]
    annotations: Sequence[Record]  # packed: changing one of them has no effect; polygons are arrays
    categories: list[Record]  # sorted by id, the order of the model's classes
    byte_order_mark: bool = False  # whether the file begins with one
    num_named_by_url: int = 0  # images whose file_name was taken from their coco_url
    others: Mapping[str, Any] = {}  # entries such as "info" and "licenses"

    @property
    def classes(self) -> list[str]:
        """The class names in the order of the model's classes."""
        return [x["name"] for x in self.categories]


class NotAnnotatedError(DataError):
    """A file with images and categories but without ``annotations``, as those of COCO's test sets."""


def read_coco_json(path: str) -> CocoData:
    """Read an annotation file in COCO's format for instances.

    Only its outline is checked: three lists of dicts. Images without a ``file_name``, as in LVIS, get it from their
    ``coco_url``.

    Raises:
        NotAnnotatedError: It lacks ``annotations``.
        DataError: The file is missing, is not JSON in UTF-8, or is not in this format, but panoptic, say.
    """
    if not PathManager.isfile(path):
        raise missing(path)
    content = _read_in_pieces(path) or _read_at_once(path)  # the latter finds out what is wrong
    images, categories, annotations = (_list(path, content, x) for x in ("images", "categories", "annotations"))
    if annotations and "segments_info" in annotations[0]:
        raise DataError(
            f"{path} is a panoptic annotation file, which has segments in place of objects: give annotations of "
            "instances; panoptic data need a registered dataset (datasets/README.md)"
        )
    categories = sorted(categories, key=lambda x: (0, x["id"]) if isinstance(x.get("id"), int) else (1, 0))
    unnamed = [x for x in images if "file_name" not in x and url_file_name(x)]
    for x in unnamed:
        x["file_name"] = url_file_name(x)
    others = {key: x for key, x in content.items() if key not in ("images", "annotations", "categories")}
    return CocoData(images, annotations, categories, _has_byte_order_mark(path), len(unnamed), others)


def missing(path: str) -> DataError:
    """Return the error for an annotation file that is missing."""
    return DataError(f"the annotation file {path} is missing: correct the path")


def _has_byte_order_mark(path: str) -> bool:
    with PathManager.open(path, "rb") as file:
        return bool(file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8)


def _read_in_pieces(path: str) -> Record | None:
    """Return the content of a JSON file with packed annotations; None if anything about it is unusual."""
    annotations, images = PackedRecords(), list[Record]()

    def add_image(x: Record) -> None:
        images.append({sys.intern(key): value for key, value in x.items()})

    try:
        with PathManager.open(path, "rb") as file, without_garbage_collection():
            found = read_lists(file, {"annotations": annotations.append, "images": add_image})
    except (OSError, MemoryError, ValueError, AttributeError, RecursionError):  # the last but one: no records
        return None
    lists: Record = {"annotations": annotations, "images": images}
    return found | {key: value for key, value in lists.items() if key in found}


def _read_at_once(path: str) -> Record:
    """Return the content of a JSON file with packed annotations.

    Raises:
        DataError: It cannot be read, is not JSON in UTF-8, or is no object.
    """
    with reading(path), PathManager.open(path, "rb") as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not COCO: {_encoding_fault(content, error)}") from error
    try:
        with reading(path):
            data = json.loads(text)
    except ValueError as error:  # also numbers of thousands of digits
        raise DataError(
            f"{path} is not COCO: it is not JSON, or truncated ({error}); create it again, or copy it again"
        ) from error
    if not isinstance(data, dict):
        raise DataError(f"{path} is not COCO: it holds a {type(data).__name__}, not a dict with 'images'")
    if "annotations" in data:
        data["annotations"] = PackedRecords(_list(path, data, "annotations"))
    return data


def url_file_name(image: Record) -> str:
    """Return the end of an image's ``coco_url``, such as "train2017/000000155379.jpg"; "" if it has none."""
    url = image.get("coco_url")
    return "/".join(url.split("/")[-2:]) if isinstance(url, str) and url.count("/") > 2 else ""


def lvis_file_name(image: Record) -> Any:
    """Return the name of an image of LVIS's: the end of its URL even if it has a ``file_name``, too.

    Only the same file in another folder, as 'data merge' names it, is named by its ``file_name``.
    """
    name, end = image.get("file_name"), url_file_name(image)
    is_moved = isinstance(name, str) and "/" in name and name.split("/")[-1] == end.split("/")[-1]
    return end if end and not is_moved else name


def moved_images(path: str) -> dict[Any, str]:
    """Return the names of the images in a file of LVIS's that are not where their URLs say, by their ids."""
    with open(PathManager.get_local_path(path), "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as text:
        if text.find(b'"file_name"') < 0:  # as in LVIS's own files, which need not be read again
            return {}
    names = ((x, lvis_file_name(x)) for x in read_coco_json(path).images)
    return {x["id"]: name for x, name in names if name != url_file_name(x)}


def image_entries(data: CocoData, lvis: bool) -> list[Record]:
    """Return the images of a file; those of LVIS's are named by :func:`lvis_file_name`."""
    return [{**x, "file_name": lvis_file_name(x)} for x in data.images] if lvis else data.images


def write_coco_json(content: Record, file: IO[str]) -> None:
    """Write a COCO json entry by entry, a third of the time of ``json.dump``."""
    encode = json.JSONEncoder(default=plain_numbers).encode
    for i, (key, value) in enumerate(content.items()):
        file.write(f"{', ' if i else '{'}{encode(key)}: ")
        if isinstance(value, list):
            file.writelines(f"{',' if k else '['}{encode(x)}" for k, x in enumerate(value))
            file.write("]" if value else "[]")
        else:
            file.write(encode(value))
    file.write("}")


def plain_numbers(numbers: Sequence[float]) -> list[float]:
    """Return a packed polygon as a list, whole numbers as integers, for a JSON encoder."""
    return [int(x) if x.is_integer() else x for x in numbers]


def _encoding_fault(content: bytes, error: UnicodeDecodeError) -> str:
    """Return what is wrong with a file that is not UTF-8, with the encoding if it can be told."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is encoded in UTF-16: save it as UTF-8"
    if b"\0" in content[:1000] or not content.lstrip().startswith((b"{", b"[")):
        return "it is not a text file, let alone JSON"
    return f"it is not UTF-8 but perhaps Latin-1 (byte {error.start} is 0x{content[error.start]:02x}): save it as UTF-8"


def take_images(coco: CocoData, count: int) -> Record:
    """Return the content of a COCO json with only the first ``count`` images, by id, that have a non-crowd object.

    Raises:
        ConfigError: There are fewer such images.
    """
    with_objects = {x["image_id"] for x in coco.annotations if not x.get("iscrowd", 0)}
    images = sorted((x for x in coco.images if x["id"] in with_objects), key=lambda x: x["id"])[:count]
    if len(images) < count:
        raise ConfigError(
            f"only {counted(len(images), 'image')} with an object, fewer than --count {count}: lower --count"
        )
    chosen = {x["id"] for x in images}
    annotations = [x for x in coco.annotations if x["image_id"] in chosen]
    return {"info": {}, "images": images, "annotations": annotations, "categories": coco.categories}


def _list(path: str, data: Record, key: str) -> Any:
    if key not in data:
        found = ", ".join(sorted(map(str, data))[:8]) or "nothing"
        error = NotAnnotatedError if key == "annotations" else DataError
        raise error(f"{path} is not COCO: it lacks the list '{key}' (it has {found})")
    if isinstance(data[key], PackedRecords):
        return data[key]
    if not isinstance(data[key], list) or not all(isinstance(x, dict) for x in data[key]):
        raise DataError(f"{path} is not COCO: '{key}' is not a list of dicts")
    return data[key]
