"""Drawing of instances over an image: ground truth or predictions, with class names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances, polygons_to_bitmask
from detectron2.utils.visualizer import Visualizer
from numpy.typing import NDArray
from PIL import ImageFont
from pycocotools import mask as rle

MAX_LABELED = 25  # objects; more are drawn without names, which would hide them
FONT_POINTS = 9.0  # of class names
CROWD_COLOR = (0.75, 0.75, 0.75)
BOX_WIDTH = 1 / 400  # width of a box outline as a fraction of the image's longer side; at least a pixel

Picture = NDArray[np.uint8]  # (H, W, 3), RGB
Mask = NDArray[np.bool_]  # (H, W)
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom


def draw_predictions(
    image: Picture, instances: Instances, metadata: Metadata, font_points: float = FONT_POINTS
) -> Picture:
    """Return the image with the masks (or else boxes), class names and scores of all ``instances`` over it.

    Args:
        image: (H, W, 3) uint8, RGB. It may be a resized version of the image that was predicted.
        instances: Predictions: ``scores``, ``pred_classes``, and ``pred_masks`` or ``pred_boxes``.
        metadata: Its ``thing_classes`` are the class names.
        font_points: Size of the names.
    """
    names = _class_names(metadata)
    classes, scores = instances.pred_classes.tolist(), instances.scores.tolist()
    labels = [f"{_name(names, c)} {score:.2f}" for c, score in zip(classes, scores, strict=True)]
    return _overlay(image, _masks(instances), labels, [class_color(c) for c in classes], font_points)


def draw_ground_truth(
    image: Picture, record: Mapping[str, Any], metadata: Metadata, font_points: float = FONT_POINTS
) -> Picture:
    """Return the image with the annotated masks of a dataset's dict over it, crowds in gray.

    Args:
        image: (H, W, 3) uint8, RGB, of any size.
        record: Dict in Detectron2's standard format; annotations without a mask are left out.
        metadata: Its ``thing_classes`` are the class names.
        font_points: Size of the names.
    """
    names = _class_names(metadata)
    masks, labels, colors = [], [], []
    for x in annotated_masks(record):
        masks.append(_decode(x["segmentation"], record["height"], record["width"]))
        crowd = bool(x.get("iscrowd"))
        labels.append(_name(names, x["category_id"]) + (" (crowd)" if crowd else ""))
        colors.append(CROWD_COLOR if crowd else class_color(x["category_id"]))
    return _overlay(image, masks, labels, colors, font_points)


def annotated_masks(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the annotations of a dataset's dict that have a mask."""
    return [x for x in record.get("annotations", []) if "segmentation" in x]


def class_color(class_index: int) -> tuple[float, float, float]:
    """Return a bright color for a class, RGB in 0..1; neighbors differ most."""
    hue = (class_index * 0.381966) % 1.0  # the golden angle
    value = 1.0 if (class_index // 5) % 2 == 0 else 0.8
    red, green, blue = matplotlib.colors.hsv_to_rgb((hue, 0.9, value))
    return float(red), float(green), float(blue)


def load_font(name: str, size: float) -> ImageFont.FreeTypeFont:
    """Return one of the fonts that come with Matplotlib, such as "DejaVuSans.ttf"; ``size`` in pixels."""
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def _masks(instances: Instances) -> list[Mask]:
    """Return the masks of instances, or the outlines of their boxes if there are no masks."""
    if instances.has("pred_masks"):
        return list(np.asarray(instances.pred_masks.cpu(), dtype=bool))
    height, width = instances.image_size
    outlines = np.zeros((len(instances), height, width), dtype=np.uint8)
    for outline, box in zip(outlines, instances.pred_boxes.tensor.tolist(), strict=True):
        x0, y0, x1, y1 = (min(round(v), side - 1) for v, side in zip(box, (width, height) * 2, strict=True))
        cv2.rectangle(outline, (x0, y0), (x1, y1), 1, thickness=max(1, round(max(height, width) * BOX_WIDTH)))
    return list(outlines.astype(bool))


def _overlay(
    image: Picture,
    masks: Sequence[Mask],
    labels: Sequence[str],
    colors: Sequence[tuple[float, float, float]],
    font_points: float,
) -> Picture:
    """Return the image with masks over it, holes left open, each with its outline and its name."""
    height, width = image.shape[:2]
    # Blend the masks with the image.
    blended = image.astype(np.float32)
    resized = [cv2.resize(m.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5 for m in masks]
    for mask, color in zip(resized, colors, strict=True):
        blended[mask] += 0.5 * (255 * np.asarray(color, dtype=np.float32) - blended[mask])
    # Draw outlines and names. Small objects come first, because their names have fewer places to go.
    visualizer = Visualizer(blended)
    taken: list[Rectangle] = []
    for i in sorted(range(len(masks)), key=lambda i: resized[i].sum()):
        mask, label, color = resized[i], labels[i], colors[i]
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for contour in contours:
            visualizer.draw_polygon(contour.reshape(-1, 2) + 0.5, color, edge_color=(*color, 1.0), alpha=0.0)
        if len(masks) <= MAX_LABELED and mask.any():
            place = _free_place(mask, label, taken, font_points)
            taken.append(place)
            position = ((place[0] + place[2]) / 2, place[1])
            light = tuple(0.45 + 0.55 * x for x in color)
            visualizer.draw_text(label, position, font_size=font_points, color=light)
    return visualizer.output.get_image()


def _free_place(mask: Mask, label: str, taken: Sequence[Rectangle], font_points: float = FONT_POINTS) -> Rectangle:
    """Return where the name of an object goes: on it, or else above or below it, where no other name is yet."""
    height, width = mask.shape
    font_pixels = font_points * 100 / 72  # Detectron2 draws at 100 pixels per inch
    text_height = font_pixels + 3
    text_width = load_font("DejaVuSans.ttf", font_pixels).getlength(label) + 3
    # Candidates in order of preference. A name on a low object would hide it.
    rows, columns = np.nonzero(mask)
    x, y = float(np.median(columns)), float(np.median(rows))
    highest, lowest = float(rows.min()), float(rows.max())
    on, above, below = y - text_height / 2, highest - text_height - 2, lowest + 3
    tops = [above, below, on] if lowest - highest < 2.5 * text_height else [on, above, below]
    tops += [y + sign * k * text_height for k in range(1, 7) for sign in (-1, 1)]
    # The first of those that overlap other names least.
    places = []
    for top in tops:
        left = min(max(x - text_width / 2, 0.0), max(width - text_width, 0.0))
        top = min(max(float(top), 0.0), height - text_height)
        places.append((left, top, left + text_width, top + text_height))
    return min(places, key=lambda place: sum(_overlap(place, other) for other in taken))


def _overlap(a: Rectangle, b: Rectangle) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _decode(segmentation: Any, height: int, width: int) -> Mask:
    if isinstance(segmentation, dict):
        return rle.decode(segmentation).astype(bool)
    return polygons_to_bitmask([np.asarray(p, dtype=np.float64) for p in segmentation], height, width)


def _class_names(metadata: Metadata) -> Sequence[str]:
    return metadata.get("thing_classes") or ()


def _name(names: Sequence[str], class_index: int) -> str:
    return names[class_index] if class_index < len(names) else f"class {class_index}"
