"""COCO's format for panoptic segmentation: a json with the segments of each image, and a PNG with their pixels."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from detectron2.utils.file_io import PathManager
from numpy.typing import NDArray
from PIL import Image

from ...utils.errors import DataError, UserError
from ...utils.reading import check_regular, read_text, reading
from ..images import IMAGE_ERRORS

VOID = 0  # id of unlabeled pixels
IGNORE_LABEL = 255  # of unlabeled pixels in label images


class PanopticImage(NamedTuple):
    """The annotation of an image."""

    image_id: int
    file_name: str  # of the PNG
    categories: dict[int, int]  # segment id -> category id
    crowds: frozenset[int]  # ids of segments that are crowds


class PanopticData(NamedTuple):
    """A panoptic annotation file."""

    images: list[PanopticImage]
    is_thing: dict[int, bool]  # category id -> whether it is a thing, sorted by id


def read_panoptic_json(path: str) -> PanopticData:
    """Read a panoptic annotation file.

    Raises:
        DataError: It is missing or not in this format.
    """
    try:
        local = PathManager.get_local_path(path)
        with reading(path):
            data = json.loads(read_text(local))
    except FileNotFoundError:
        raise DataError(f"the panoptic annotation file {path} is missing: see datasets/README.md") from None
    except UserError:
        raise
    except ValueError as error:
        raise DataError(f"{path} is not a panoptic annotation file: it is not JSON ({error})") from error
    try:
        categories = sorted((x["id"], bool(x["isthing"])) for x in data["categories"])
        images = [_image(x) for x in data["annotations"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a panoptic annotation file ({type(error).__name__}: {error}): it needs 'categories' with "
            "'isthing', and 'annotations' with 'image_id', 'file_name' and 'segments_info'"
        ) from error
    is_thing = dict(categories)
    for image in images:
        unknown = set(image.categories.values()) - set(is_thing)
        if unknown:
            raise DataError(
                f"{path}: a segment of {image.file_name} has the category {min(unknown)}, which is not listed"
            )
    return PanopticData(images, is_thing)


def read_segment_ids(path: str, image: PanopticImage | None = None) -> NDArray[np.int64]:
    """Return the segment id of each pixel, (H, W); ids are r + 256 g + 65536 b.

    Args:
        path: PNG file.
        image: Its annotation, to check that all ids are in the json.

    Raises:
        DataError: The file is missing, damaged or not RGB, or has an id that is not in the json.
    """
    try:
        check_regular(path)
        with PathManager.open(path, "rb") as file:
            pixels = np.asarray(Image.open(file))
    except FileNotFoundError:
        raise DataError(f"the panoptic image {path} is missing: see datasets/README.md") from None
    except IMAGE_ERRORS as error:
        raise DataError(f"the panoptic image {path} is damaged ({error}): replace it") from error
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise DataError(f"the panoptic image {path} is not RGB, whose values are segment ids: replace it")
    ids: NDArray[np.int64] = pixels[..., :3].astype(np.int64) @ np.array([1, 256, 65536])
    if image is not None:
        unknown = set(np.unique(ids).tolist()) - set(image.categories) - {VOID}
        if unknown:
            raise DataError(f"the panoptic image {path} has the segment {min(unknown)}, which is not in the json")
    return ids


def write_segment_ids(ids: NDArray[Any], file: Any) -> None:
    """Write segment ids, (H, W) below 2**24, as a PNG to an open file."""
    channels = [(ids >> shift) & 255 for shift in (0, 8, 16)]
    Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)).save(file, format="PNG")


def semantic_labels(ids: NDArray[np.int64], image: PanopticImage, is_thing: dict[int, bool]) -> NDArray[np.uint8]:
    """Return the label image that Panoptic FPN trains with: 0 for all things, then the stuff categories by id.

    Args:
        ids: Segment ids, (H, W), all of them of ``image`` or ``VOID``.
        image: The annotation.
        is_thing: The categories, fewer than 255 of them stuff.
    """
    stuff = [x for x, thing in is_thing.items() if not thing]
    label_of = {category: number for number, category in enumerate(stuff, start=1)}
    found, inverse = np.unique(ids, return_inverse=True)
    labels = [IGNORE_LABEL if x == VOID else label_of.get(image.categories[x], 0) for x in found.tolist()]
    return np.array(labels, dtype=np.uint8)[inverse.reshape(ids.shape)]


def _image(annotation: dict[str, Any]) -> PanopticImage:
    segments = annotation["segments_info"]
    return PanopticImage(
        int(annotation["image_id"]),
        annotation["file_name"],
        {x["id"]: x["category_id"] for x in segments},
        frozenset(x["id"] for x in segments if x.get("iscrowd")),
    )
