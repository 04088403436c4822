"""Files of the predictions of all images that lose nothing when the program that writes them ends early."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from ..utils.files import atomic_write, make_folder, open_to_write
from ..utils.text import printable
from .conversions import instances_to_coco_annotations, instances_to_polygons, instances_to_rows
from .predictions import Prediction

PREDICTIONS, RESULTS, TABLE = "predictions.json", "results.json", "instances.csv"
COLUMNS = (
    *("id", "image_id", "file", "frame", "time", "track_id", "class", "score", "x", "y", "width", "height", "area"),
    *("centroid_x", "centroid_y"),
)
RESULT_KEYS = ("image_id", "category_id", "bbox", "score", "segmentation", "track_id")


class PredictionsFile:
    """Writes the instances of images one by one, in a ``with`` block.

    Each image is a line of ``predictions.jsonl`` as soon as it is added. When the block ends, also because of an error
    or Ctrl-C, ``predictions.json`` in COCO's format replaces that file. If the program is killed, the lines remain.

    Attributes:
        num_images: Images added so far.
        num_instances: Instances added so far.
    """

    def __init__(
        self, folder: str, class_names: Sequence[str], *, polygons: bool = False, results: bool = False
    ) -> None:
        """
        Args:
            folder: Where the file is, created if missing.
            class_names: Names of the categories, whose ids start at 1; may be empty.
            polygons: Whether masks are polygons instead of run-length codes.
            results: Whether ``results.json`` is written, too: the instances only, with codes, as evaluation takes them.

        Raises:
            ConfigError: The folder or the file cannot be created.
        """
        make_folder(folder)
        self.num_images = self.num_instances = 0
        self._path = os.path.join(folder, PREDICTIONS)
        self._results = os.path.join(folder, RESULTS) if results else None
        self._polygons = polygons
        self._lines = open_to_write(self._path + "l", "w+")
        self._categories = [{"id": i, "name": name} for i, name in enumerate(class_names, 1)]

    def add(self, prediction: Prediction) -> None:
        """Write the instances of an image; ids of annotations count from 1."""
        self.num_images += 1
        height, width = prediction.image.shape[:2]
        image = {"id": prediction.id, "file_name": prediction.name, "height": height, "width": width}
        if prediction.frame is not None:
            image |= {"frame": prediction.frame.index, "time": round(prediction.frame.time, 6)}
        found = instances_to_coco_annotations(prediction.instances, prediction.id, self.num_instances + 1)
        self.num_instances += len(found)
        if self._polygons:
            for x, outlines in zip(found, instances_to_polygons(prediction.instances), strict=True):
                x["polygons"] = outlines
        self._lines.write(json.dumps({"image": image, "annotations": found}) + "\n")
        self._lines.flush()

    def __enter__(self) -> PredictionsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lines:
            with atomic_write(self._path) as file:
                file.write('{"images": [')
                file.writelines(_separated(json.dumps(x["image"]) for x in self._records()))
                file.write('],\n"annotations": [')
                file.writelines(_separated(json.dumps(_annotation(a)) for a in self._annotations()))
                file.write(f'],\n"categories": {json.dumps(self._categories)}}}\n')
            if self._results is not None:
                with atomic_write(self._results) as file:
                    file.write("[")
                    file.writelines(_separated(json.dumps(_result(a)) for a in self._annotations()))
                    file.write("]\n")
        os.remove(self._path + "l")

    def _records(self) -> Iterator[dict[str, Any]]:
        self._lines.seek(0)
        return map(json.loads, self._lines)

    def _annotations(self) -> Iterator[dict[str, Any]]:
        return (a for x in self._records() for a in x["annotations"])


def _annotation(line: dict[str, Any]) -> dict[str, Any]:
    polygons = line.pop("polygons", None)
    return line | {"segmentation": polygons} if polygons else line  # a mask without a pixel has none


def _result(line: dict[str, Any]) -> dict[str, Any]:
    return {key: line[key] for key in RESULT_KEYS if key in line}


def _separated(items: Iterator[str]) -> Iterator[str]:
    for i, item in enumerate(items):
        yield f"{',' if i else ''}\n{item}"


class Table:
    """Writes a line of ``instances.csv`` for each instance as soon as its image is added, in a ``with`` block."""

    def __init__(self, folder: str) -> None:
        """
        Args:
            folder: Where the file is.

        Raises:
            ConfigError: It cannot be created.
        """
        self._file = open_to_write(os.path.join(folder, TABLE))
        self._table = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._table.writeheader()
        self._count = 0

    def add(self, prediction: Prediction) -> None:
        """Write the instances of an image; their ids are those of ``predictions.json``."""
        image: dict[str, Any] = {"image_id": prediction.id, "file": printable(prediction.name)}
        if prediction.frame is not None:
            image |= {"frame": prediction.frame.index, "time": round(prediction.frame.time, 6)}
        for row in instances_to_rows(prediction.instances, prediction.class_names):
            self._count += 1
            self._table.writerow({"id": self._count, **image, **row})
        self._file.flush()

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()
