"""Small COCO files, valid or with a fault, for the tests of this folder."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30
VALID: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (1, 2, 3)],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "bbox": [2, 3, 10, 8],
            "area": 80,
            "iscrowd": 0,
            "segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]],
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 4,
            "bbox": [0, 0, 1, 20],
            "area": 20,
            "iscrowd": 1,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 20, HEIGHT * WIDTH - 20]},
        },
        {
            "id": 3,
            "image_id": 2,
            "category_id": 4,
            "bbox": [5, 5, 10, 10],
            "area": 100,
            "iscrowd": 0,
            "segmentation": [[5, 5, 15, 5, 15, 15, 5, 15]],
        },
    ],
    "categories": [{"id": 7, "name": "cat"}, {"id": 4, "name": "dog"}, {"id": 9, "name": "emu"}],
}


def valid() -> dict[str, Any]:
    """Return a copy of the valid file's content, for a test to modify."""
    return copy.deepcopy(VALID)


def write(folder: Path, data: Any = VALID) -> tuple[str, str]:
    """Write images and ``data`` into ``folder``, and return the paths of the json and of the images."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for i in (1, 2, 3):
        Image.fromarray(pixels).save(images / f"{i}.png")
    (folder / "data.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return str(folder / "data.json"), str(images)
