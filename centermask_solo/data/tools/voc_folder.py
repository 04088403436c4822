"""Read Pascal VOC's folders of masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ...utils.errors import DataError
from ...utils.reading import read_text
from ..formats.label_maps import VOC_CLASSES, VOID, numbers_of_colors, read_voc, voc_color
from ..formats.objects import Lost
from ..images import read_labels
from .folders import Read, below, files_below, image_of_map, progress


def read_voc_folder(source: str, image_root: str, class_names: Sequence[str] | None, lost: Lost) -> Read:
    """Return the images of a dataset in VOC's format, the names of its classes, and the folder of the images."""
    known, colors = _voc_classes(source)
    names = known or class_names or list(VOC_CLASSES)
    object_colors = {i: voc_color(i) for i in range(256)}
    folder, root = os.path.join(source, "SegmentationObject"), image_root or os.path.join(source, "JPEGImages")
    images = []
    for path in progress(files_below(folder, (".png",))):
        name = below(path, folder)
        ids = _voc_map(path, object_colors)
        classes = _voc_map(os.path.join(source, "SegmentationClass", name), colors)
        images.append(image_of_map(name, root, ids, read_voc(classes, ids, names, path)))
    return images, names, root


def _voc_map(path: str, colors: dict[int, list[int]]) -> Any:
    """Return a map of numbers, (H, W), which may be in colors, as CVAT writes it."""
    pixels = read_labels(path, in_colors=True)
    return pixels if pixels.ndim == 2 else numbers_of_colors(pixels, colors, path)


def _voc_classes(source: str) -> tuple[list[str], dict[int, list[int]]]:
    """Return the class names in ``labelmap.txt``, none without it, and the color of each number, from 0 to 255.

    Lines are such as "cat:64,0,0::". The background is black, or the first line of that name.
    """
    path = os.path.join(source, "labelmap.txt")
    colors = {i: voc_color(i) for i in range(256)}
    if not os.path.isfile(path):
        return [], colors
    void, entries = colors[VOID], []
    for line in read_text(path).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, *rest = line.rsplit(":", 3)
        try:
            color = [int(x) for x in rest[0].split(",")]
        except (ValueError, IndexError):
            color = []
        if color and len(color) != 3:
            raise DataError(f"{path}: {line!r} is no line such as 'cat:64,0,0::': correct it")
        entries.append((name, color))
    black = next((x for x in entries if x[1] == [0, 0, 0]), None)
    background = black or next((x for x in entries if x[0] == "background"), None)
    entries = [x for x in entries if x is not background and x != ("void", void)]
    colors |= {i: color or colors[i] for i, (_, color) in enumerate(entries, 1)}
    return [name for name, _ in entries], colors
