"""A dataset in which no check finds anything."""

import json

import numpy as np
from PIL import Image

from centermask_solo.data.validation.report import Scope, check_dataset

WIDTH, HEIGHT = 96, 72
NUM_IMAGES = 4
BOXES = [[x, y, 20 + x // 8, 24] for y in (4, 40) for x in (4, 32, 60)]  # three of each class


def polygon(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def clean():
    """Return a json without any fault: 4 images with 3 objects of each of 2 classes."""
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(1, 5)],
        "annotations": [
            {
                "id": 6 * i + k + 1,
                "image_id": i + 1,
                "category_id": k % 2 + 1,
                "iscrowd": 0,
                "area": box[2] * box[3],
                "bbox": list(box),
                "segmentation": [polygon(box)],
            }
            for i in range(NUM_IMAGES)
            for k, box in enumerate(BOXES)
        ],
        "categories": [{"id": 1, "name": "robin"}, {"id": 2, "name": "wren"}],
    }


def write(folder, data, seed=0):
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed)
    for i in range(1, NUM_IMAGES + 1):
        Image.fromarray(noise.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "data.json").write_text(json.dumps(data))


def found(folder, **scope):
    """Return the counts of everything that a report finds, by id."""
    report = check_dataset(str(folder / "data.json"), str(folder), Scope(**scope))
    groups = (report.faults, report.warnings, report.notes)
    return {x.rule.id: x.count for group in groups for x in group.values()}
