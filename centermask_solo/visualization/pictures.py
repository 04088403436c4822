"""Pictures to look at: images, their ground truth and what a model found in them, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.data.detection_utils import read_image
from detectron2.structures import Instances, polygons_to_bitmask
from detectron2.utils.visualizer import Visualizer
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as rle

SCORE_THRESHOLD = 0.3  # from which on instances are drawn, where nobody says otherwise
PANEL = 400  # longer side of each picture, pixels
MARGIN, HEADER, CAPTION = 12, 40, 26  # pixels: between the pictures, of the title row, below each picture
MAX_LABELLED = 25  # more objects in a picture are drawn without names, which would hide them
FONT_POINTS = 9.0  # of the names of objects
CROWD_COLOR = (0.75, 0.75, 0.75)

Picture = NDArray[np.uint8]  # (H, W, 3), RGB
Mask = NDArray[np.bool_]  # (H, W)
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom


def contact_sheet(
    dataset_dicts: Sequence[Mapping[str, Any]],
    predictions: Sequence[Instances],
    metadata: Metadata,
    path: str,
    score_threshold: float = SCORE_THRESHOLD,
) -> str:
    """The path of a picture with one row an image: image, ground truth, prediction, with class names and scores.

    Args:
        dataset_dicts: images in Detectron2's standard format: ``file_name`` and, for ground truth, ``annotations``.
        predictions: of each of them, in its frame: ``scores``, ``pred_classes``, and ``pred_masks`` or ``pred_boxes``.
        metadata: its ``thing_classes`` name the classes.
        path: of the file to write; its ending decides the format. Its folder is made if need be.
        score_threshold: detections with lower scores are left out.
    """
    titles = ("image", "ground truth", f"prediction, score ≥ {score_threshold:.2f}")
    rows = []
    for record, instances in zip(dataset_dicts, predictions, strict=True):
        image = _fit(read_image(record["file_name"], "RGB"))
        found = instances[instances.scores >= score_threshold]
        rows.append(
            [
                (image, os.path.basename(record["file_name"])),
                _draw_truth(image, record, metadata),
                _draw_prediction(image, found, metadata),
            ]
        )
    if os.path.dirname(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    _compose(titles, rows).save(path)
    return path


def draw_predictions(image: Picture, instances: Instances, metadata: Metadata) -> Picture:
    """The image, RGB, with the masks (or else boxes), class names and scores of all ``instances`` over it.

    Args:
        image: (H, W, 3) uint8.
        instances: in the frame of the image: ``scores``, ``pred_classes``, and ``pred_masks`` or ``pred_boxes``.
        metadata: its ``thing_classes`` name the classes.
    """
    return _draw_prediction(image, instances, metadata)[0]


def _draw_truth(image: Picture, record: Mapping[str, Any], metadata: Metadata) -> tuple[Picture, str]:
    names = _class_names(metadata)
    masks, labels, colors = [], [], []
    for x in record.get("annotations", []):
        if "segmentation" not in x:
            continue
        masks.append(_decode(x["segmentation"], record["height"], record["width"]))
        crowd = bool(x.get("iscrowd"))
        labels.append(_name(names, x["category_id"]) + (" (crowd)" if crowd else ""))
        colors.append(CROWD_COLOR if crowd else class_color(x["category_id"]))
    return _overlay(image, masks, labels, colors), _count(len(masks), "object")


def _draw_prediction(image: Picture, instances: Instances, metadata: Metadata) -> tuple[Picture, str]:
    names = _class_names(metadata)
    classes = instances.pred_classes.tolist()
    masks = _masks(instances)
    labels = [f"{_name(names, c)} {score:.2f}" for c, score in zip(classes, instances.scores.tolist(), strict=True)]
    return _overlay(image, masks, labels, [class_color(c) for c in classes]), _count(len(masks), "detection")


def _masks(instances: Instances) -> list[Mask]:
    """The masks of instances; the outlines of their boxes, if the model gives boxes alone."""
    if instances.has("pred_masks"):
        return list(np.asarray(instances.pred_masks.cpu(), dtype=bool))
    height, width = instances.image_size
    outlines = np.zeros((len(instances), height, width), dtype=np.uint8)
    for outline, box in zip(outlines, instances.pred_boxes.tensor.tolist(), strict=True):
        x0, y0, x1, y1 = (min(round(v), side - 1) for v, side in zip(box, (width, height) * 2, strict=True))
        cv2.rectangle(outline, (x0, y0), (x1, y1), 1, thickness=max(1, round(max(height, width) / PANEL)))
    return list(outlines.astype(bool))


def class_color(class_index: int) -> tuple[float, float, float]:
    """A bright colour for a class, RGB in 0..1: neighbours differ most."""
    hue = (class_index * 0.381966) % 1.0  # the golden angle
    value = 1.0 if (class_index // 5) % 2 == 0 else 0.8
    red, green, blue = matplotlib.colors.hsv_to_rgb((hue, 0.9, value))
    return float(red), float(green), float(blue)


def _overlay(
    image: Picture, masks: Sequence[Mask], labels: Sequence[str], colors: Sequence[tuple[float, float, float]]
) -> Picture:
    """The image with the masks over it, holes left open, each with its outline and its name."""
    height, width = image.shape[:2]
    blended = image.astype(np.float32)
    resized = [cv2.resize(m.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5 for m in masks]
    for mask, color in zip(resized, colors, strict=True):
        blended[mask] += 0.5 * (255 * np.asarray(color, dtype=np.float32) - blended[mask])
    visualizer = Visualizer(blended)
    taken: list[Rectangle] = []
    for i in sorted(range(len(masks)), key=lambda i: resized[i].sum()):  # the small ones' names have the first choice
        mask, label, color = resized[i], labels[i], colors[i]
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for contour in contours:
            visualizer.draw_polygon(contour.reshape(-1, 2) + 0.5, color, edge_color=(*color, 1.0), alpha=0.0)
        if len(masks) <= MAX_LABELLED and mask.any():
            place = _free_place(mask, label, taken)
            taken.append(place)
            position = ((place[0] + place[2]) / 2, place[1])
            light = tuple(0.45 + 0.55 * x for x in color)
            visualizer.draw_text(label, position, font_size=FONT_POINTS, color=light)
    return visualizer.output.get_image()


def _free_place(mask: Mask, label: str, taken: Sequence[Rectangle]) -> Rectangle:
    """Where the name of an object goes: on it, or else above or below it, where no other name is yet."""
    height, width = mask.shape
    text_height = FONT_POINTS * 100 / 72 + 3  # Detectron2 draws at 100 pixels an inch
    text_width = _font("DejaVuSans.ttf", FONT_POINTS * 100 / 72).getlength(label) + 3
    rows, columns = np.nonzero(mask)
    x, y = float(np.median(columns)), float(np.median(rows))
    highest, lowest = float(rows.min()), float(rows.max())
    on, above, below = y - text_height / 2, highest - text_height - 2, lowest + 3
    covered = lowest - highest < 2.5 * text_height  # a name on it would hide it
    tops = [above, below, on] if covered else [on, above, below]
    tops += [y + sign * k * text_height for k in range(1, 7) for sign in (-1, 1)]
    places = []
    for top in tops:
        left = min(max(x - text_width / 2, 0.0), max(width - text_width, 0.0))
        top = min(max(float(top), 0.0), height - text_height)
        places.append((left, top, left + text_width, top + text_height))
    return min(places, key=lambda place: sum(_overlap(place, other) for other in taken))  # the first of the freest


def _overlap(a: Rectangle, b: Rectangle) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _compose(titles: Sequence[str], rows: Sequence[Sequence[tuple[Picture, str]]]) -> Image.Image:
    heights = [max((picture.shape[0] for picture, _ in row), default=0) + CAPTION for row in rows]
    width = MARGIN + len(titles) * (PANEL + MARGIN)
    sheet = Image.new("RGB", (width, HEADER + sum(heights) + MARGIN * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    bold, plain = _font("DejaVuSans-Bold.ttf", 18), _font("DejaVuSans.ttf", 14)
    lefts = [MARGIN + i * (PANEL + MARGIN) for i in range(len(titles))]
    for left, title in zip(lefts, titles, strict=True):
        draw.text((left + PANEL / 2, HEADER / 2), title, font=bold, fill="black", anchor="mm")
    top = HEADER
    for row, height in zip(rows, heights, strict=True):
        for left, (picture, caption) in zip(lefts, row, strict=True):
            sheet.paste(Image.fromarray(picture), (left + (PANEL - picture.shape[1]) // 2, top))
            middle = (left + PANEL / 2, top + picture.shape[0] + CAPTION / 2)
            draw.text(middle, caption, font=plain, fill="black", anchor="mm")
        top += height + MARGIN
    return sheet


def _font(name: str, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def _fit(image: Picture) -> Picture:
    """The image enlarged or reduced so that its longer side fills a panel."""
    height, width = image.shape[:2]
    scale = PANEL / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _decode(segmentation: Any, height: int, width: int) -> Mask:
    if isinstance(segmentation, dict):
        return rle.decode(segmentation).astype(bool)
    return polygons_to_bitmask([np.asarray(p, dtype=np.float64) for p in segmentation], height, width)


def _class_names(metadata: Metadata) -> Sequence[str]:
    return metadata.get("thing_classes") or ()


def _name(names: Sequence[str], class_index: int) -> str:
    return names[class_index] if class_index < len(names) else f"class {class_index}"


def _count(number: int, what: str) -> str:
    text = f"{number or 'no'} {what}{'' if number == 1 else 's'}"
    return f"{text}, names left out" if number > MAX_LABELLED else text
