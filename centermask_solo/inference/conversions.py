"""The instances of an image in the formats of other programs.

Each function takes Detectron2's ``Instances`` with ``pred_boxes``, ``scores``, ``pred_classes`` and, but for models of
boxes, ``pred_masks`` of any form; those of exported files first become such by
:func:`~centermask_solo.runtime.detectron2_model.to_instances`. Where there are ``track_ids``, results have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from detectron2.structures import Instances
from numpy.typing import NDArray

from ..data.formats.labelme import labelme_document, labelme_shapes
from ..data.formats.yolo import yolo_lines
from ..data.pixels import Pixels
from ..structures.components import polygons
from ..structures.mask_formats import coco_results, packed
from ..structures.outlines import Polygon
from ..structures.rle_codes import Window, paste
from ..structures.supervision import detections
from ..utils.class_names import class_name
from ..utils.errors import ConfigError

ID_MAP_LIMIT = 65_535  # instances of an image in a map of 16 bits
DIGITS = 3  # of coordinates and scores as text

Row = dict[str, Any]


def instances_to_polygons(instances: Instances) -> list[list[Polygon]]:
    """Return the polygons of each instance, x1, y1, x2, y2, ... in pixels, one for each connected part.

    By COCO's rules they enclose exactly the pixels of the mask; holes are joined to the outline by bridges without
    width. Instances without masks have their boxes.
    """
    if instances.has("pred_masks"):
        return [polygons(window) for window in _windows(instances)]
    return [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in _boxes(instances)]


def instances_to_coco_results(instances: Instances, image_id: int, first_category: int = 1) -> list[Row]:
    """Return an entry of COCO's results format for each instance, its mask as a run-length code.

    Args:
        instances: Of an image.
        image_id: Id of the image.
        first_category: Id of the category of class 0; those of the others follow.
    """
    found = coco_results(instances, image_id)
    for x, track in zip(found, _track_ids(instances), strict=True):
        x["category_id"] += first_category
        if track is not None:
            x["track_id"] = track
    return found


def instances_to_coco_annotations(
    instances: Instances, image_id: int, first_id: int = 1, *, as_polygons: bool = False
) -> list[Row]:
    """Return an annotation of COCO's dataset format for each instance, with its score; categories count from 1.

    Args:
        instances: Of an image.
        image_id: Id of the image.
        first_id: Id of the first annotation; those of the others follow.
        as_polygons: Whether masks are polygons instead of run-length codes; those without a pixel remain codes.
    """
    found = instances_to_coco_results(instances, image_id)
    areas = _areas(instances)
    outlines = instances_to_polygons(instances) if as_polygons and instances.has("pred_masks") else []
    for i, x in enumerate(found):
        x |= {"id": first_id + i, "iscrowd": 0, "area": areas[i]}
        if outlines and outlines[i]:
            x["segmentation"] = outlines[i]
    return found


def instances_to_labelme(instances: Instances, file_name: str, class_names: Sequence[str]) -> Row:
    """Return the content of labelme's file for an image: polygons, in which the instances can be corrected.

    Args:
        instances: Of an image.
        file_name: Path of the image from the folder of the file.
        class_names: Names of the classes, in order.
    """
    height, width = instances.image_size
    shapes = []
    outlines, scores = instances_to_polygons(instances), instances.scores.tolist()
    for i, (number, score) in enumerate(zip(instances.pred_classes.tolist(), scores, strict=True)):
        shapes += labelme_shapes(
            class_name(class_names, number), outlines[i], group_id=i, description=f"score {score:.{DIGITS}f}"
        )
    return labelme_document(file_name, width, height, shapes)


def instances_to_yolo(instances: Instances) -> list[str]:
    """Return the lines of a file in YOLO's format for segmentation, one for each instance."""
    height, width = instances.image_size
    return yolo_lines(instances_to_polygons(instances), instances.pred_classes.tolist(), width, height)


def instances_to_id_map(instances: Instances) -> NDArray[np.uint16]:
    """Return the number of the instance at each pixel, (H, W) uint16: from 1, in their order, and 0 for none.

    Where several overlap, it is the one with the best score.

    Raises:
        ConfigError: There are more instances than such a map can hold, or they have no masks.
    """
    if len(instances) > ID_MAP_LIMIT:
        raise ConfigError(f"a map of 16 bits cannot hold {len(instances)} instances: keep at most {ID_MAP_LIMIT}")
    ids = np.zeros(instances.image_size, np.uint16)
    windows = list(_windows(instances))
    for i in instances.scores.argsort(stable=True).tolist():
        paste(ids, windows[i], i + 1)
    return ids


def instances_to_masks(instances: Instances) -> Iterator[NDArray[np.uint8]]:
    """Yield the mask of each instance, (H, W) uint8: 255 inside, 0 outside.

    Raises:
        ConfigError: They have no masks.
    """
    for window in _windows(instances):
        mask = np.zeros(instances.image_size, np.uint8)
        paste(mask, window, 255)
        yield mask


def instances_to_cutouts(instances: Instances, image: Pixels) -> Iterator[Pixels]:
    """Yield the part of the image in the box of each mask, (h, w, 4) uint8, transparent outside of the mask.

    That of a mask without a pixel is empty.

    Args:
        instances: Of the image.
        image: (H, W, 3) uint8; the order of its channels, such as BGR, stays, and alpha follows.

    Raises:
        ConfigError: They have no masks.
    """
    for left, top, pixels in _windows(instances):
        part = image[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        yield np.concatenate([part, pixels[..., None] * np.uint8(255)], axis=2)


def instances_to_rows(instances: Instances, class_names: Sequence[str]) -> list[Row]:
    """Return "class", "score", "x", "y", "width", "height" (of the box), "area" and centroid of each instance.

    All are in pixels of the image; "centroid_x" and "centroid_y" are the means of its pixels' centers, or the center of
    the box if there is no mask, or none of its pixels.

    Args:
        instances: Of an image.
        class_names: Names of the classes, in order.
    """
    boxes, areas = _boxes(instances), _areas(instances)
    windows: list[Window | None] = list(_windows(instances)) if instances.has("pred_masks") else [None] * len(boxes)
    rows = []
    values = zip(boxes, areas, windows, instances.pred_classes.tolist(), instances.scores.tolist(), strict=True)
    for ((x0, y0, x1, y1), area, window, number, score), track in zip(values, _track_ids(instances), strict=True):
        center = ((x0 + x1) / 2, (y0 + y1) / 2) if window is None or not area else _centroid(window)
        numbers = {
            "score": score,
            "x": x0,
            "y": y0,
            "width": x1 - x0,
            "height": y1 - y0,
            "area": area,
            "centroid_x": center[0],
            "centroid_y": center[1],
        }
        row = {"class": class_name(class_names, number), **{k: round(v, DIGITS) for k, v in numbers.items()}}
        rows.append(row | ({} if track is None else {"track_id": track}))
    return rows


def instances_to_supervision(instances: Instances, class_names: Sequence[str] = ()) -> Any:
    """Return the ``Detections`` of the package supervision, which must be installed.

    Args:
        instances: Of an image.
        class_names: Names of the classes, in order; they become ``data["class_name"]``.

    Raises:
        MissingPackageError: It is not installed.
    """
    return detections(
        instances.pred_boxes.tensor.cpu().numpy(),
        instances.scores.cpu().numpy(),
        instances.pred_classes.cpu().numpy(),
        list(_windows(instances)) if instances.has("pred_masks") else None,
        instances.image_size,
        class_names,
        instances.track_ids.cpu().numpy() if instances.has("track_ids") else None,
    )


def _windows(instances: Instances) -> Iterator[Window]:
    if not instances.has("pred_masks"):
        raise ConfigError("the model finds boxes only, but this output needs masks: choose another one")
    return packed(instances.pred_masks).windows()


def _boxes(instances: Instances) -> list[list[float]]:
    return instances.pred_boxes.tensor.tolist()


def _areas(instances: Instances) -> list[float]:
    """Return the pixels of masks, or the areas of boxes."""
    if instances.has("pred_masks"):
        return packed(instances.pred_masks).areas().tolist()
    return instances.pred_boxes.area().tolist()


def _track_ids(instances: Instances) -> list[int] | list[None]:
    return instances.track_ids.tolist() if instances.has("track_ids") else [None] * len(instances)


def _centroid(window: Window) -> tuple[float, float]:
    rows, columns = (window.pixels.sum(axis=axis) for axis in (1, 0))
    y, x = (float(n @ (np.arange(len(n)) + 0.5)) / int(rows.sum()) for n in (rows, columns))
    return window.left + x, window.top + y
