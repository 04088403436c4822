"""Generate images of shapes with exact instance masks, in COCO format, for experiments, tests and the demo.

The data is a function of a seed: each image has its own random generator, seeded by the seed, the name of the split and
the index of the image. :mod:`.scenes` describes the images.
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

from ...utils.errors import ConfigError, DataError
from ...utils.files import atomic_write, make_folder
from .scenes import CLASSES, DEFAULT_SIZE, Scene, SceneObject, draw_scene, scene_kind

logger = logging.getLogger(__name__)

VERSION = 3  # incremented whenever the same options give other images or masks
NUM_IMAGES = {"train": 2000, "val": 100}  # of the registered splits
MAX_IMAGES = 1_000_000  # of a split
QUEUED = 64  # images that wait for the threads
SMALLEST_SIZE, LARGEST_SIZE = 128, 16_384  # pixels; the larger scenes do not fit into smaller images
ANNOTATIONS, IMAGES, RECORD = "annotations.json", "images", "generator.json"


def draw_shapes(split: str, index: int, seed: int = 0, size: int = DEFAULT_SIZE) -> Scene:
    """Return an image of a split and its objects, which are the same on every machine."""
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    return draw_scene(rng, scene_kind(index), size)


def generate_shapes(
    root: str | os.PathLike[str],
    split: str,
    num_images: int,
    seed: int = 0,
    size: int = DEFAULT_SIZE,
) -> Path:
    """Generate ``root/split`` with ``images/``, ``annotations.json`` (COCO) and ``generator.json``; return its path.

    A folder with the same images is kept; one made with other options is replaced. The new folder appears under its
    name only once it is complete. Concurrent calls wait for each other.

    Args:
        root: Folder of all splits.
        split: Name of the split, which enters the seed, so that splits share no images.
        num_images: Number of images; a smaller split is a prefix of a larger one.
        seed: Seed of all randomness, at least 0.
        size: Longer side of the largest images, pixels.

    Raises:
        ConfigError: An option is out of range.
        DataError: The folder holds other files.
    """
    _check_options(split, num_images, seed, size)
    folder = Path(root) / split
    options = {"split": split, "num_images": num_images, "seed": seed, "size": size}
    record = {"version": VERSION, "options": options}
    make_folder(folder.parent)
    with file_lock(str(folder.with_name(f".{split}"))):
        found = read_record(folder)
        if found == record:
            return folder
        if found is None and folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder} holds files that the generator did not write: choose another folder or split")
        if found is not None:
            _refuse_other_files(folder, found["options"]["num_images"])
            logger.warning("%s was generated with %s and is replaced by images of %s", folder, found, record)
        partial, old = folder.with_name(f".{split}.partial"), folder.with_name(f".{split}.old")
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        _write(partial, split, num_images, seed, size)
        with atomic_write(partial / RECORD) as file:
            file.write(json.dumps(record, indent=2) + "\n")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def ensure_shapes(root: str | os.PathLike[str], split: str) -> Path:
    """Return the folder of a split; generate it if it is missing, or again with its own options if it is outdated.

    Raises:
        DataError: The folder holds other files, or is missing and has no default number of images.
    """
    folder = Path(root) / split
    found = read_record(folder)
    if found is not None and found["version"] == VERSION:
        return folder
    if found is not None:
        return generate_shapes(root, **found["options"])
    if split not in NUM_IMAGES:
        raise DataError(f"{folder} is missing: generate it with datasets/prepare_shapes.py --split {split} --count ...")
    return generate_shapes(root, split, NUM_IMAGES[split])


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the ``version`` and ``options`` that a folder was generated with; None if it was not generated."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and set(record) == {"version", "options"} else None


def _refuse_other_files(folder: Path, num_images: int) -> None:
    """Raise DataError if a generated folder holds what the generator did not write, before it is replaced."""
    known = {ANNOTATIONS, RECORD, IMAGES, *(os.path.join(IMAGES, _image_name(i)) for i in range(num_images))}
    others = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    other = next((name for name in others if name not in known), None)
    if other is not None:
        raise DataError(
            f"{folder} would be replaced by other images, but holds {other}, which the generator did not write: move "
            "it, or choose another folder or split"
        )


def _image_name(index: int) -> str:
    return f"{index:06d}.png"


def _check_options(split: str, num_images: int, seed: int, size: int) -> None:
    if not split or split != os.path.basename(split) or split.startswith("."):
        raise ConfigError(f"'{split}' cannot name a split: use a plain word such as 'train'")
    if not 1 <= num_images <= MAX_IMAGES:
        raise ConfigError(f"cannot generate {num_images} images: ask for 1 to {MAX_IMAGES}")
    if seed < 0:
        raise ConfigError(f"the seed {seed} is negative: use 0 or more")
    if size > LARGEST_SIZE:
        raise ConfigError(f"images of {size} pixels are too large: use at most {LARGEST_SIZE}")
    if size < SMALLEST_SIZE:
        raise ConfigError(f"images of {size} pixels are too small for the scenes: use at least {SMALLEST_SIZE}")


def _write(folder: Path, split: str, num_images: int, seed: int, size: int) -> None:
    """Draw all images into ``folder``, in two threads so that drawing and compressing overlap."""

    def draw(index: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        scene = draw_shapes(split, index, seed, size)
        name = _image_name(index)
        with atomic_write(folder / IMAGES / name, "wb", durable=False) as file:
            Image.fromarray(scene.image).save(file, format="PNG", compress_level=1)
        height, width = scene.image.shape[:2]
        record = {"id": index + 1, "file_name": name, "height": height, "width": width, "scene": scene.kind}
        return record, [_annotation(x, image_id=index + 1) for x in scene.objects]

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with ThreadPoolExecutor(2) as pool:
        pieces = (range(i, min(i + QUEUED, num_images)) for i in range(0, num_images, QUEUED))
        drawn = (x for piece in pieces for x in pool.map(draw, piece))  # few at a time, so that Ctrl-C ends it
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
    with atomic_write(folder / ANNOTATIONS) as file:
        json.dump(data, file)


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
