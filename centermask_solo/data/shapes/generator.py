"""Generated data: images of shapes with exact instance masks, in COCO format, for trials, tests and the demo.

Everything follows from a seed: each image has a random generator of its own, made from the seed, the split's name and
the image's number. What the images hold is said in :mod:`.shape_scenes`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from iopath.common.file_io import file_lock
from PIL import Image
from pycocotools import mask as rle
from tqdm import tqdm

from .scenes import CLASSES, DEFAULT_SIZE, Scene, SceneObject, draw_scene, scene_kind

logger = logging.getLogger(__name__)

VERSION = 3  # of what is drawn; raised whenever the same options give other images or masks
NUM_IMAGES = {"train": 2000, "val": 100}  # of the splits that are registered
SMALLEST_SIZE = 128  # pixels; in smaller images the larger scenes do not fit
ANNOTATIONS, IMAGES, RECORD = "annotations.json", "images", "generator.json"


def draw_shapes(split: str, index: int, seed: int = 0, size: int = DEFAULT_SIZE) -> Scene:
    """The image number ``index`` of a split, with its objects: the same on any machine."""
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    return draw_scene(rng, scene_kind(index), size)


def generate_shapes(
    root: str | os.PathLike[str],
    split: str,
    num_images: int,
    seed: int = 0,
    size: int = DEFAULT_SIZE,
) -> Path:
    """The folder ``root/split`` with ``images/``, ``annotations.json`` (COCO) and ``generator.json``, made if need be.

    A folder that holds the same images already is left alone, one made with other options is replaced. The new one
    appears under its name only when it is whole. Processes that call this at the same time wait for each other.

    Args:
        root: the folder of all splits.
        split: the name of the split; it enters the seed, so that splits share no image.
        num_images: how many; a smaller split is the beginning of a larger one.
        seed: of all chance, 0 or larger.
        size: longer side of the largest images, pixels.

    Raises:
        ValueError: an option makes no sense, or the folder holds something else.
    """
    _check_options(split, num_images, seed, size)
    folder = Path(root) / split
    options = {"split": split, "num_images": num_images, "seed": seed, "size": size}
    record = {"version": VERSION, "options": options}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(str(folder.with_name(f".{split}"))):
        found = read_record(folder)
        if found == record:
            return folder
        if found is None and folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds files that the generator did not write: choose another folder or split")
        if found is not None:
            logger.warning("%s was generated with %s; it is replaced by one with %s", folder, found, record)
        partial, old = folder.with_name(f".{split}.partial"), folder.with_name(f".{split}.old")
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        _write(partial, split, num_images, seed, size)
        (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def ensure_shapes(root: str | os.PathLike[str], split: str) -> Path:
    """The folder of a split as it lies there, generated with its own or the default options where it is missing or old.

    Raises:
        ValueError: the folder holds something else, or nobody has said how many images this split has.
    """
    folder = Path(root) / split
    found = read_record(folder)
    if found is not None and found["version"] == VERSION:
        return folder
    if found is not None:
        return generate_shapes(root, **found["options"])
    if split not in NUM_IMAGES:
        raise ValueError(
            f"{folder} is missing: generate it with datasets/prepare_shapes.py --split {split} --count ..."
        )
    return generate_shapes(root, split, NUM_IMAGES[split])


def read_record(folder: Path) -> dict[str, Any] | None:
    """What the generator wrote about a folder: ``version`` and ``options``; None if it did not make it."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and set(record) == {"version", "options"} else None


def _check_options(split: str, num_images: int, seed: int, size: int) -> None:
    if not split or split != os.path.basename(split) or split.startswith("."):
        raise ValueError(f"'{split}' cannot name a split: take a plain word such as 'train'")
    if num_images < 1:
        raise ValueError(f"{num_images} images are no data set: give 1 or more")
    if seed < 0:
        raise ValueError(f"the seed {seed} is negative: give 0 or more")
    if size < SMALLEST_SIZE:
        raise ValueError(f"images of {size} pixels are too small for the scenes: give {SMALLEST_SIZE} or more")


def _write(folder: Path, split: str, num_images: int, seed: int, size: int) -> None:
    """Draw all images into ``folder``; drawing and compressing overlap in two threads."""
    (folder / IMAGES).mkdir(parents=True)

    def draw(index: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        scene = draw_shapes(split, index, seed, size)
        name = f"{index:06d}.png"
        Image.fromarray(scene.image).save(folder / IMAGES / name, compress_level=1)
        height, width = scene.image.shape[:2]
        record = {"id": index + 1, "file_name": name, "height": height, "width": width, "scene": scene.kind}
        return record, [_annotation(x, image_id=index + 1) for x in scene.objects]

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with ThreadPoolExecutor(2) as pool:
        drawn = pool.map(draw, range(num_images))
        progress = tqdm(drawn, f"generating shapes/{split}", total=num_images, unit=" images", mininterval=1.0)
        for image, objects in progress:
            images.append(image)
            for x in objects:
                annotations.append({"id": len(annotations) + 1, **x})
    data = {
        "info": {"description": f"generated shapes, version {VERSION}, split {split}, seed {seed}, size {size}"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": "shape"} for i, name in enumerate(CLASSES, 1)],
    }
    (folder / ANNOTATIONS).write_text(json.dumps(data))


def _annotation(x: SceneObject, image_id: int) -> dict[str, Any]:
    code = rle.encode(np.asfortranarray(x.mask, dtype=np.uint8))
    return {
        "image_id": image_id,
        "category_id": x.class_index + 1,
        "iscrowd": int(x.is_crowd),
        "area": int(rle.area(code)),
        "bbox": [float(v) for v in rle.toBbox(code)],
        "segmentation": {"size": [int(v) for v in code["size"]], "counts": code["counts"].decode("ascii")},
    }
