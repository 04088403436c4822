"""Find out the format of a dataset."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ...utils.errors import DataError
from ...utils.reading import read_text

FORMATS = ("coco", "labelme", "yolo", "voc", "maps", "cityscapes")
MAPS_JSON = "instances.json"  # of PNG instance maps
YOLO_YAML = "data.yaml"  # with the names of YOLO's classes
LABELS = "labels.txt"  # of labelme, with the names of all classes
_FOUND = 3  # files of a folder that tell its format


def find_format(source: str) -> str:
    """Return the format of a dataset, by the names of its files.

    Raises:
        DataError: It is not there, or several or none of the formats fit.
    """
    path = Path(source)
    if path.is_file():
        return "coco"
    if not path.is_dir():
        raise DataError(f"{source} is missing: correct the path")
    names = [os.path.join(folder, x) for folder, _, files in os.walk(source) for x in files if not x.startswith(".")]
    texts = {x for x in names if x.endswith(".txt") and os.path.basename(x) not in ("classes.txt", LABELS)}
    jsons = [x for x in names if x.endswith(".json")]
    signs = {
        "cityscapes": any(x.endswith("_instanceIds.png") for x in names),
        "voc": (path / "SegmentationObject").is_dir(),
        "maps": (path / MAPS_JSON).is_file(),
        "labelme": any("shapes" in peek(x) for x in jsons[:_FOUND]),
    }
    signs["coco"] = len(coco_jsons(source)) == 1
    signs["yolo"] = not any(signs.values()) and (bool(texts) or os.path.isdir(labels_beside(source)))
    found = [name for name, fits in signs.items() if fits]
    if len(found) != 1:
        what = f"fits {' and '.join(found)}" if found else f"fits none of the formats {', '.join(FORMATS)}"
        if not found and not texts and not jsons:
            raise DataError(f"{source} has no annotations in any of the formats {', '.join(FORMATS)}: correct the path")
        raise DataError(f"{source} {what}: name its format to 'data convert', as in --from labelme {source}")
    return found[0]


def coco_jsons(folder: str) -> list[str]:
    """Return the jsons in COCO's format in a folder, its subfolders not included, of the first few in it."""
    found = sorted(str(x) for x in Path(folder).glob("*.json") if not x.name.startswith("."))
    return [x for x in found[:_FOUND] if {"images", "annotations", "categories"} <= peek(x).keys()]


def labels_beside(folder: str) -> str:
    """Return the folder of YOLO's text files for one of images, "labels" in place of "images"; "" if it is none."""
    parts = list(Path(folder).absolute().parts)
    if "images" not in parts:
        return ""
    last = len(parts) - 1 - parts[::-1].index("images")
    return os.path.join(*parts[:last], "labels", *parts[last + 1 :])


def peek(path: str) -> dict[str, Any]:
    """Return the object in a json; {} if it holds none."""
    try:
        found = json.loads(read_text(path))
    except (ValueError, OSError):  # errors of data are ValueErrors
        return {}
    return found if isinstance(found, dict) else {}
