"""A small dataset with all that annotation formats differ in."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle

HEIGHT, WIDTH = 24, 32
NAMES = ["Blaumeise, jung", "猫", "person"]  # not by alphabet, the second without an object in some images
IMAGES = ["a b.png", "sub folder/Größe 猫.png", "empty.png"]


def encode(mask):
    code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": code["counts"].decode()}


def ring():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2:12, 3:13] = True
    mask[5:8, 6:9] = False  # a hole
    mask[20:22, 28:31] = True  # and a second part
    return mask


def crowd():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[15:, :6] = True
    return mask


SEGMENTATIONS = [
    ([[14.25, 2.5, 21.75, 2.5, 21.5, 9.125, 14, 9]], 1, 0, 1),  # segmentation, category, iscrowd, image
    ([[14, 12, 18, 12, 18, 16], [22, 12, 27, 12, 27, 17.5, 22, 17]], 3, 0, 1),
    (encode(ring()), 1, 0, 1),
    (encode(crowd()), 3, 1, 1),
    ([[1, 1, 30, 1, 30, 20, 1, 20]], 2, 0, 2),
]


def content(segmentations=SEGMENTATIONS, names=NAMES):
    annotations = []
    for i, (segmentation, category, is_crowd, image) in enumerate(segmentations, 1):
        code = segmentation
        if isinstance(segmentation, list):
            code = rle.merge(rle.frPyObjects(segmentation, HEIGHT, WIDTH))
        entry = {"id": i, "image_id": image, "category_id": category, "iscrowd": is_crowd}
        entry |= {"bbox": rle.toBbox(code).tolist(), "area": int(rle.area(code)), "segmentation": segmentation}
        annotations.append(entry)
    return {
        "images": [{"id": i, "file_name": x, "width": WIDTH, "height": HEIGHT} for i, x in enumerate(IMAGES, 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }


def write(folder: Path, data=None) -> tuple[str, str]:
    """Write a COCO json and images, and return their paths."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for name in IMAGES:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    path = folder / "data.json"
    path.write_text(json.dumps(content() if data is None else data), encoding="utf-8")
    return str(path), str(folder / "images")


def objects(data):
    """What a COCO json says about each image: class, mask, and whether it is a crowd, in a fixed order."""
    names = {x["id"]: x["name"] for x in data["categories"]}
    found = {}
    for image in data["images"]:
        found[image["file_name"]] = sorted(
            (names[x["category_id"]], bool(x["iscrowd"]), mask(x["segmentation"]).tobytes())
            for x in data["annotations"]
            if x["image_id"] == image["id"]
        )
    return found


def mask(segmentation):
    if isinstance(segmentation, list):
        segmentation = rle.merge(rle.frPyObjects(segmentation, HEIGHT, WIDTH))
    return rle.decode(segmentation).astype(bool)
