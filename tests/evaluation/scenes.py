"""Small annotated images of rectangles with detections, and random ones."""

from __future__ import annotations

import json

import numpy as np
from pycocotools import mask as rle

from centermask_solo.evaluation.analysis import read_annotated, read_detected

SIDE = 100
CLASSES = ("cat", "dog", "cow")


def code(box, side=SIDE):
    """The run lengths of a rectangle x, y, width, height."""
    x, y, w, h = box
    mask = np.zeros((side, side), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    found = rle.encode(mask)
    return {"size": [side, side], "counts": found["counts"].decode()}


def polygon(box):
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


class Scene:
    """Images, objects and detections, and the files of both.

    Objects are (image, class, box) and maybe True for a crowd; detections are (image, class, box, score).
    """

    def __init__(self, folder, objects, detections, num_images=None, classes=CLASSES):
        num_images = num_images or 1 + max(x[0] for x in (*objects, *detections))
        images = [{"id": 10 + i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE} for i in range(num_images)]
        annotations = [self.annotation(i, *x) for i, x in enumerate(objects, 1)]
        categories = [{"id": 5 * k, "name": name} for k, name in enumerate(classes, 1)]
        self.content = {"images": images, "annotations": annotations, "categories": categories}
        self.results = [
            {"image_id": 10 + i, "category_id": 5 * (k + 1), "score": score, "bbox": [*box], "segmentation": code(box)}
            for i, k, box, score in detections
        ]
        self.json_file, self.results_file = folder / "gt.json", folder / "results.json"
        self.write()

    @staticmethod
    def annotation(number, image, k, box, crowd=False):
        found = {"id": number, "image_id": 10 + image, "category_id": 5 * (k + 1), "iscrowd": int(crowd)}
        found["segmentation"] = polygon(box)
        if crowd:
            found["segmentation"] = code(box)
        return found | {"bbox": [*box], "area": box[2] * box[3]}

    def write(self):
        self.json_file.write_text(json.dumps(self.content))
        self.results_file.write_text(json.dumps(self.results))

    def read(self, iou_type=None):
        annotated = read_annotated(str(self.json_file))
        return annotated, read_detected(str(self.results_file), annotated, iou_type)


def random_scene(folder, seed=0, num_images=12, wrong=40):
    """Objects of all sizes with crowds; detections near them and elsewhere, with equal scores, some classes wrong."""
    rng = np.random.default_rng(seed)
    objects, detections = [], []
    for image in range(num_images - 1):  # the last image is empty
        for _ in range(int(rng.integers(1, 7))):
            w, h = rng.integers(4, 60, 2).tolist()
            x, y = int(rng.integers(0, SIDE - w)), int(rng.integers(0, SIDE - h))
            k = int(rng.integers(len(CLASSES) - 1))
            objects.append((image, k, (x, y, w, h), bool(rng.random() < 0.15)))
            for _ in range(int(rng.integers(0, 4))):
                dx, dy = rng.integers(-3, 4, 2).tolist()
                moved = (max(x + dx, 0), max(y + dy, 0), min(w, SIDE - max(x + dx, 0)), min(h, SIDE - max(y + dy, 0)))
                label = k if rng.random() < 0.8 else int(rng.integers(len(CLASSES)))
                detections.append((image, label, moved, round(float(rng.random()), 1)))
    for _ in range(wrong):
        box = (*rng.integers(0, 60, 2).tolist(), *rng.integers(2, 40, 2).tolist())
        detections.append((int(rng.integers(num_images)), int(rng.integers(3)), box, round(float(rng.random()), 1)))
    return Scene(folder, objects, detections, num_images)
