"""Pictures of an analysis: images with their ground truth beside what models found, and single mistakes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from pycocotools import mask as rle

from ..data.images import read_image
from ..data.validation.files import refuse_outside
from ..evaluation.analysis import Analysis, Comparison
from ..evaluation.analysis.errors import KINDS
from ..evaluation.analysis.objects import Annotated, Detected, Objects
from ..evaluation.analysis.worst import confident_mistakes, shown_in
from ..structures.compact_masks import RLEMasks
from ..utils.errors import DataError
from ..visualization.drawing import draw_ground_truth, draw_predictions
from ..visualization.html_page import Figure
from ..visualization.labels import Picture

PANEL = 420  # longer side of an image in pixels
GAP = 6  # pixels between the images of a picture
MARGIN = 0.5  # around a mistake, as a fraction of its longer side
MIN_CROP = 96  # pixels, sides of the part of an image that shows a mistake

Part = tuple[int, int, int, int]  # left, top, right, bottom in an image


class Painter:
    """Draws images of a dataset with some of their objects and detections."""

    def __init__(self, annotated: Annotated, image_root: str) -> None:
        """
        Args:
            annotated: Ground truth.
            image_root: Folder of the images.

        Raises:
            DataError: Images are missing, or outside of the folder.
        """
        self._annotated = annotated
        self._paths = [os.path.join(image_root, x["file_name"]) for x in annotated.records]
        refuse_outside(self._paths, image_root)
        missing = [path for path in self._paths if not os.path.isfile(path)]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(self._paths)} images are missing, such as {missing[0]}: give their folder"
            )
        self._metadata = Metadata(thing_classes=list(annotated.names))

    def image(self, index: int, shown: Sequence[tuple[Detected, Sequence[int]]]) -> Picture:
        """Return an image with its ground truth, and beside it with some detections of one or more models."""
        record = self._annotated.records[index]
        return self._panels(index, (0, 0, record["width"], record["height"]), shown)

    def mistake(self, detected: Detected, det: int, gt: int) -> Picture:
        """Return the part of an image around a detection and an object (-1: none): ground truth and detection."""
        index = int(detected.images[det])
        record = self._annotated.records[index]
        boxes = np.stack([detected.boxes[det], *([self._annotated.boxes[gt]] if gt >= 0 else [])])
        low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
        center, side = (low + high) / 2, max(float((high - low).max()) * (1 + MARGIN), MIN_CROP)
        left, top = np.floor((center - side / 2).clip(0)).astype(int).tolist()
        right, bottom = np.ceil(center + side / 2).astype(int).tolist()
        part = (left, top, min(right, record["width"]), min(bottom, record["height"]))
        return self._panels(index, part, [(detected, [det])])

    def _panels(self, index: int, part: Part, shown: Sequence[tuple[Detected, Sequence[int]]]) -> Picture:
        left, top, right, bottom = part
        image = read_image(self._paths[index], "RGB", max_pixels=0)[top:bottom, left:right]
        scale = PANEL / max(image.shape[:2])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small: Picture = np.asarray(cv2.resize(image, size, interpolation=how), dtype=np.uint8)
        panels = [draw_ground_truth(small, self._ground_truth(index, part), self._metadata)]
        panels += [
            draw_predictions(small, _instances(detected, list(chosen), part), self._metadata)
            for detected, chosen in shown
        ]
        gap = np.full((small.shape[0], GAP, 3), 255, np.uint8)
        joined = [x for panel in panels for x in (gap, panel)][1:]
        return np.concatenate(joined, axis=1)

    def _ground_truth(self, index: int, part: Part) -> dict[str, Any]:
        """Return the part of an image in Detectron2's standard format."""
        annotated = self._annotated
        objects = np.flatnonzero(annotated.images == index).tolist()
        masks: list[Any] = [_polygon_of_box(annotated.boxes[i], part) for i in objects]
        if annotated.codes:
            masks = [_cut(annotated, i, part) for i in objects]
        return {
            "height": part[3] - part[1],
            "width": part[2] - part[0],
            "annotations": [
                {"category_id": int(annotated.classes[i]), "segmentation": mask, "iscrowd": int(annotated.crowds[i])}
                for i, mask in zip(objects, masks, strict=True)
            ],
        }


def _instances(detected: Detected, chosen: list[int], part: Part) -> Instances:
    """Return detections in a part of an image."""
    size = (part[3] - part[1], part[2] - part[0])
    fields: dict[str, Any] = {"scores": torch.from_numpy(detected.scores[chosen])}
    fields["pred_classes"] = torch.from_numpy(detected.classes[chosen])
    if detected.codes:
        fields["pred_masks"] = RLEMasks([_cut(detected, i, part) for i in chosen], size)
    else:
        x, y, w, h = detected.boxes[chosen].T
        corners = np.stack([x, y, x + w, y + h], axis=1) - np.array([*part[:2], *part[:2]])
        fields["pred_boxes"] = Boxes(torch.from_numpy(corners).float())
    return Instances(size, **fields)


def _cut(objects: Objects, index: int, part: Part) -> dict[str, Any]:
    """Return the code of a mask in a part of its image."""
    left, top, right, bottom = part
    code = objects.codes[index]
    if tuple(code["size"]) == (bottom, right) and not left and not top:
        return code
    return rle.encode(np.asfortranarray(rle.decode(code)[top:bottom, left:right]))


def _polygon_of_box(box: Any, part: Part) -> list[list[float]]:
    left, top = float(box[0]) - part[0], float(box[1]) - part[1]
    right, bottom = left + float(box[2]), top + float(box[3])
    return [[left, top, right, top, right, bottom, left, bottom]]


def worst_images(analysis: Analysis, painter: Painter, count: int) -> Iterator[Figure]:
    """Yield pictures of the images with the lowest quality: ground truth, and the detections above the threshold."""
    evaluated, quality = analysis.evaluated, analysis.quality
    for i in quality.worst(count):
        shown = np.flatnonzero(shown_in(analysis.confusion, evaluated, i)).tolist()
        name = evaluated.annotated.records[i]["file_name"]
        counts = f"{quality.found[i]} found, {quality.wrong[i]} wrong, {quality.missed[i]} missed"
        yield Figure(
            painter.image(i, [(evaluated.detected, shown)]),
            f"{name}: quality {quality.quality[i]:.2f}; {counts}",
            name=name,
            objects=_classes_in(evaluated.annotated, i),
        )


def mistakes(analysis: Analysis, painter: Painter, count: int) -> Iterator[Figure]:
    """Yield pictures of the wrong detections with the highest scores: ground truth, and the detection."""
    evaluated, errors = analysis.evaluated, analysis.errors
    annotated, detected = evaluated.annotated, evaluated.detected
    for det in confident_mistakes(evaluated, errors, count):
        gt, kind = int(errors.gt[det]), KINDS[errors.kind[det]]
        found = annotated.names[detected.classes[det]]
        name = annotated.records[detected.images[det]]["file_name"]
        expected = annotated.names[annotated.classes[gt]] if gt >= 0 else "background"
        yield Figure(
            painter.mistake(detected, det, gt),
            f"{name}: {found} {detected.scores[det]:.2f}; {kind}; ground truth: {expected}",
            name=name,
            objects=[{"kind": kind, "detected as": found, "ground truth": expected}],
        )


def differences(comparison: Comparison, painter: Painter, count: int) -> Iterator[Figure]:
    """Yield pictures of the images whose quality differs most: ground truth, the first model, and the second one."""
    both = (comparison.first, comparison.second)
    annotated = both[0].evaluated.annotated
    first, second = (np.nan_to_num(x.quality.quality) for x in both)
    for i in np.argsort(-np.abs(second - first), kind="stable")[:count].tolist():
        if first[i] == second[i]:
            return
        shown = [(x.evaluated.detected, np.flatnonzero(shown_in(x.confusion, x.evaluated, i)).tolist()) for x in both]
        name = annotated.records[i]["file_name"]
        yield Figure(
            painter.image(i, shown),
            f"{name}: quality {first[i]:.2f} and {second[i]:.2f}",
            name=name,
            objects=[{"better": "first" if first[i] > second[i] else "second"}],
        )


def _classes_in(annotated: Annotated, image: int) -> list[Mapping[str, str]]:
    classes = np.unique(annotated.classes[annotated.images == image]).tolist()
    return [{"class": annotated.names[k]} for k in classes]
