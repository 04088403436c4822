"""Drawing of instances over an image: ground truth or predictions, with class names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances, PolygonMasks, polygons_to_bitmask
from numpy.typing import NDArray
from pycocotools import mask as rle

from ..structures.compact_masks import CompactMasks
from ..utils.class_names import class_name
from .colors import CROWD_COLOR, NUM_COLORS, Color, class_color, instance_colors, stuff_color
from .labels import Picture, Rectangle, choose_labeled, draw_label, place_label

MAX_LABELED = 25  # objects; more are drawn without names, which would hide them
LINE_WIDTH = 1 / 1000  # width of outlines as a fraction of the image's longer side; at least a pixel
BOX_WIDTH = 1 / 400  # the same of a box

Mask = NDArray[np.bool_]  # (H, W)
ColorBy = Literal["instance", "class"]
Part = Literal["masks", "outlines", "boxes", "names", "scores"]
PARTS: tuple[Part, ...] = ("masks", "outlines", "boxes", "names", "scores")


class Style(NamedTuple):
    """How predictions are drawn.

    Attributes:
        color_by: What has a color of its own: each instance, or each class; instances that are tracked keep theirs.
        parts: What of each instance is drawn; boxes in place of masks where a model finds boxes only.
        line_width: Width of outlines and boxes in pixels; by default one that fits the image.
    """

    color_by: ColorBy = "instance"
    parts: tuple[Part, ...] = ("masks", "outlines", "names", "scores")
    line_width: int | None = None


DEFAULT_STYLE = Style()


class Shape(NamedTuple):
    """An object in a picture.

    Attributes:
        left: Left end of its box in the picture, in pixels.
        top: Upper end of its box.
        mask: (h, w) uint8: 1 where the object is in its box; None for one that is only a box.
        width: Width of the box.
        height: Height of the box.
    """

    left: int
    top: int
    width: int
    height: int
    mask: NDArray[np.uint8] | None

    @property
    def box(self) -> Rectangle:
        """(left, top, right, bottom)."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height if self.mask is None else cv2.countNonZero(self.mask)

    def center(self) -> tuple[float, float]:
        """Return the median of the pixels' columns and that of their rows."""
        if self.mask is None:
            return self.left + self.width / 2, self.top + self.height / 2
        columns, rows = (cv2.reduce(self.mask, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (0, 1))
        x, y = (int(np.searchsorted(np.cumsum(counts), counts.sum() / 2)) for counts in (columns, rows))
        return self.left + x, self.top + y


def draw_predictions(image: Picture, instances: Instances, metadata: Metadata, style: Style = DEFAULT_STYLE) -> Picture:
    """Return the image with the masks (or else boxes), class names and scores of ``instances`` over it.

    Args:
        image: (H, W, 3) uint8, RGB. It may be a resized version of the image that was predicted.
        instances: Predictions: ``scores``, ``pred_classes``, and ``pred_masks``, of any form, or ``pred_boxes``; maybe
            ``track_ids``, which are drawn before the names.
        metadata: Its ``thing_classes`` are the class names.
        style: How they are drawn.
    """
    names = _class_names(metadata)
    classes, scores = instances.pred_classes.tolist(), instances.scores.tolist()
    tracks = instances.track_ids.tolist() if instances.has("track_ids") else None
    labels = [f"#{i}" for i in tracks] if tracks else [""] * len(classes)
    if "names" in style.parts:
        labels = [f"{label} {class_name(names, c)}" for label, c in zip(labels, classes, strict=True)]
    if "scores" in style.parts:
        labels = [f"{label} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    if instances.has("pred_masks"):
        shapes = _shapes(instances.pred_masks.cpu(), image)
    else:
        shapes = [_box(box, instances.image_size, image) for box in instances.pred_boxes.tensor.tolist()]
    colors = _colors(shapes, classes, style.color_by)
    if tracks and style.color_by == "instance":
        colors = [class_color(i % NUM_COLORS) for i in tracks]
    return _overlay(image, shapes, [x.strip() for x in labels], colors, style)


def draw_panoptic(
    image: Picture,
    segmentation: torch.Tensor,
    segments: Sequence[Mapping[str, Any]],
    metadata: Metadata,
    *,
    score_threshold: float = 0.0,
    style: Style = DEFAULT_STYLE,
) -> Picture:
    """Return the image with the segments of a panoptic segmentation over it, stuff in pale colors.

    Args:
        image: (H, W, 3) uint8, RGB, of any size.
        segmentation: (H, W) int, the id of each pixel's segment.
        segments: Detectron2's ``segments_info``: "id", "isthing" and "category_id" of each, and maybe its "score".
        metadata: Its ``thing_classes`` and ``stuff_classes`` are the names.
        score_threshold: Things with lower scores are left out.
        style: How they are drawn; its ``color_by`` is that of things.
    """
    shown = [x for x in segments if x.get("score", 1.0) >= score_threshold]
    shown.sort(key=lambda x: bool(x["isthing"]))  # outlines of things over those of stuff
    ids, names = segmentation.cpu().numpy(), {True: _class_names(metadata), False: metadata.get("stuff_classes") or ()}
    shapes = [_shape(ids == x["id"], image, copy=True) for x in shown]
    num_stuff, labels = sum(not x["isthing"] for x in shown), []
    for x in shown:
        name = class_name(names[bool(x["isthing"])], x["category_id"])
        labels.append(f"{name} {x['score']:.2f}" if "score" in x else name)
    classes = [x["category_id"] for x in shown]
    colors = [stuff_color(c) for c in classes[:num_stuff]]
    colors += _colors(shapes[num_stuff:], classes[num_stuff:], style.color_by)
    return _overlay(image, shapes, labels, colors, style)


def draw_ground_truth(
    image: Picture, record: Mapping[str, Any], metadata: Metadata, *, color_by: ColorBy = "instance"
) -> Picture:
    """Return the image with the annotated masks of a dataset's dict over it, crowds in gray.

    Args:
        image: (H, W, 3) uint8, RGB, of any size.
        record: Dict in Detectron2's standard format; annotations without a mask are left out.
        metadata: Its ``thing_classes`` are the class names.
        color_by: What has a color of its own: each instance, or each class.
    """
    names, annotations = _class_names(metadata), annotated_masks(record)
    shapes = [_shape(_decode(x["segmentation"], record, image), image) for x in annotations]
    classes, crowds = [x["category_id"] for x in annotations], [bool(x.get("iscrowd")) for x in annotations]
    labels = [class_name(names, c) + (" (crowd)" if crowd else "") for c, crowd in zip(classes, crowds, strict=True)]
    colors = _colors(shapes, classes, color_by)
    return _overlay(image, shapes, labels, [CROWD_COLOR if x else c for x, c in zip(crowds, colors, strict=True)])


def draw_training_sample(
    image: Picture, instances: Instances, metadata: Metadata, *, color_by: ColorBy = "instance"
) -> Picture:
    """Return the image with the ground truth of a mapped sample over it, crowds in gray.

    Args:
        image: (H, W, 3) uint8, RGB. It may be a resized version of the mapped image.
        instances: Ground truth: ``gt_classes``, and ``gt_masks`` of any form, or ``gt_boxes``.
        metadata: Its ``thing_classes`` are the class names.
        color_by: What has a color of its own: each instance, or each class.
    """
    names, classes = _class_names(metadata), instances.gt_classes.tolist()
    crowds = instances.gt_is_crowd.tolist() if instances.has("gt_is_crowd") else [False] * len(classes)
    if not instances.has("gt_masks"):
        shapes = [_box(box, instances.image_size, image) for box in instances.gt_boxes.tensor.tolist()]
    elif isinstance(instances.gt_masks, PolygonMasks):
        polygons = instances.gt_masks.polygons
        shapes = [_shape(polygons_to_bitmask(x, *instances.image_size), image) for x in polygons]
    else:
        shapes = _shapes(instances.gt_masks.tensor, image)
    labels = [class_name(names, c) + (" (crowd)" if crowd else "") for c, crowd in zip(classes, crowds, strict=True)]
    colors = _colors(shapes, classes, color_by)
    return _overlay(image, shapes, labels, [CROWD_COLOR if x else c for x, c in zip(crowds, colors, strict=True)])


def annotated_masks(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the annotations of a dataset's dict that have a mask."""
    return [x for x in record.get("annotations", []) if "segmentation" in x]


def _colors(shapes: Sequence[Shape], classes: Iterable[int], color_by: ColorBy) -> list[Color]:
    return [class_color(c) for c in classes] if color_by == "class" else instance_colors([x.box for x in shapes])


def _shapes(masks: Any, image: Picture) -> list[Shape]:
    """Return the objects of an image's masks, of any form and size, in a picture."""
    if not isinstance(masks, CompactMasks):
        return [_shape(np.asarray(mask, dtype=bool), image) for mask in masks]
    if masks.size == image.shape[:2]:
        return [Shape(x, y, p.shape[1], p.shape[0], p.view(np.uint8)) for x, y, p in masks.windows()]
    return [_shape(mask.numpy(), image, copy=True) for mask in masks]  # one at a time, of which only the box is kept


def _shape(mask: Mask, image: Picture, *, copy: bool = False) -> Shape:
    """Return the object of a mask of any size in a picture; its box is empty if the mask is.

    Without ``copy`` it refers to the pixels of the mask.
    """
    height, width = image.shape[:2]
    pixels: NDArray[np.uint8] = mask.view(np.uint8)
    if mask.shape != (height, width):
        smaller = mask.shape[0] > height
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        pixels = (cv2.resize(255 * pixels, (width, height), interpolation=how) >= 128).astype(np.uint8)
    left, top, w, h = cv2.boundingRect(pixels)
    inside = pixels[top : top + h, left : left + w]
    return Shape(left, top, w, h, inside.copy() if copy else inside)


def _box(box: Sequence[float], image_size: tuple[int, int], image: Picture) -> Shape:
    """Return the object of a box (x0, y0, x1, y1) in an image of ``image_size`` (H, W) in a picture of another size."""
    (height, width), scales = image.shape[:2], [a / b for a, b in zip(image.shape[:2], image_size, strict=True)]
    x0, x1 = (min(max(round(x * scales[1]), 0), width - 1) for x in box[0::2])
    y0, y1 = (min(max(round(y * scales[0]), 0), height - 1) for y in box[1::2])
    return Shape(x0, y0, x1 - x0, y1 - y0, None)


def _overlay(
    image: Picture,
    shapes: Sequence[Shape],
    labels: Sequence[str],
    colors: Sequence[Color],
    style: Style = DEFAULT_STYLE,
) -> Picture:
    """Return the image with objects over it, holes left open, each with its outline and its name."""
    picture = np.array(image, order="C")
    height, width = image.shape[:2]
    values = [tuple(round(255 * x) for x in color) for color in colors]
    for shape, value in zip(shapes, values, strict=True):
        if shape.mask is not None and shape.area and "masks" in style.parts:
            patch = picture[shape.top : shape.top + shape.height, shape.left : shape.left + shape.width]
            mixed = np.rint((np.arange(256)[:, None] + value) / 2).astype(np.uint8)  # of each channel's values
            cv2.copyTo(cv2.LUT(patch, mixed[None]), shape.mask, patch)
    # Outlines and names follow, because masks would hide them; small objects have fewer places for theirs.
    areas = [shape.area for shape in shapes]
    for shape, value in zip(shapes, values, strict=True):
        if shape.mask is None or (shape.area and "boxes" in style.parts):
            _draw_box(picture, shape, value, style.line_width)
        if shape.mask is not None and "outlines" in style.parts:
            _draw_outline(picture, shape, value, style.line_width)
    taken: list[Rectangle] = []
    for i in choose_labeled(labels, areas, (height, width)) if any(labels) and len(shapes) <= MAX_LABELED else []:
        place = place_label(labels[i], shapes[i].box, shapes[i].center(), taken, (height, width))
        if place is not None:
            taken.append(place)
            draw_label(picture, labels[i], place, colors[i])
    return picture


def _draw_box(picture: Picture, shape: Shape, value: tuple[int, ...], line_width: int | None) -> None:
    width = line_width or max(1, round(max(picture.shape[:2]) * BOX_WIDTH))
    right, bottom = shape.left + shape.width, shape.top + shape.height
    cv2.rectangle(picture, (shape.left, shape.top), (right, bottom), value, width)


def _draw_outline(picture: Picture, shape: Shape, value: tuple[int, ...], line_width: int | None) -> None:
    if shape.mask is None or not shape.mask.size:
        return
    width = line_width or max(1, round(max(picture.shape[:2]) * LINE_WIDTH))
    contours, _ = cv2.findContours(shape.mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(shape.left, shape.top))
    cv2.drawContours(picture, contours, -1, value, width, cv2.LINE_AA)


def _decode(segmentation: Any, record: Mapping[str, Any], image: Picture) -> Mask:
    """Return the mask of an annotation: polygons in the picture's size, run lengths in that of the image."""
    if isinstance(segmentation, dict):
        return rle.decode(segmentation).astype(bool)
    height, width = image.shape[:2]
    scale = np.asarray([width / record["width"], height / record["height"]])
    polygons = [(np.asarray(p, dtype=np.float64).reshape(-1, 2) * scale).ravel() for p in segmentation]
    return polygons_to_bitmask(polygons, height, width)


def _class_names(metadata: Metadata) -> Sequence[str]:
    return metadata.get("thing_classes") or ()
