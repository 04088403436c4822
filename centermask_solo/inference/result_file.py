"""A file of predictions in COCO's format that loses nothing when the program that writes it ends early."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from detectron2.structures import Instances
from pycocotools.mask import area

from ..structures.mask_formats import coco_results
from ..utils.files import atomic_write, make_folder, open_to_write

PREDICTIONS = "predictions.json"


class PredictionsFile:
    """Writes the instances of images one by one, in a ``with`` block.

    Each image is a line of ``predictions.jsonl`` as soon as it is added. When the block ends, also because of an error
    or Ctrl-C, ``predictions.json`` in COCO's format replaces that file. If the program is killed, the lines remain.

    Attributes:
        num_images: Images added so far.
        num_instances: Instances added so far.
    """

    def __init__(self, folder: str, class_names: Sequence[str]) -> None:
        """
        Args:
            folder: Where the file is, created if missing.
            class_names: Names of the categories, whose ids start at 1; may be empty.

        Raises:
            ConfigError: The folder or the file cannot be created.
        """
        make_folder(folder)
        self.num_images = self.num_instances = 0
        self._path = os.path.join(folder, PREDICTIONS)
        self._lines = open_to_write(self._path + "l", "w+")
        self._categories = [{"id": i, "name": name} for i, name in enumerate(class_names, 1)]

    def add(self, file_name: str, height: int, width: int, instances: Instances) -> None:
        """Write the instances of an image; ids of images and annotations count from 1."""
        self.num_images += 1
        image = {"id": self.num_images, "file_name": file_name, "height": height, "width": width}
        found = coco_results(instances, self.num_images)
        for i, x in enumerate(found, self.num_instances + 1):
            x |= {"id": i, "category_id": x["category_id"] + 1, "iscrowd": 0}
            x["area"] = int(area(x["segmentation"])) if "segmentation" in x else x["bbox"][2] * x["bbox"][3]
        self.num_instances += len(found)
        self._lines.write(json.dumps({"image": image, "annotations": found}) + "\n")
        self._lines.flush()

    def __enter__(self) -> PredictionsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lines, atomic_write(self._path) as file:
            file.write('{"images": [')
            file.writelines(_separated(json.dumps(x["image"]) for x in self._records()))
            file.write('],\n"annotations": [')
            file.writelines(_separated(json.dumps(a) for x in self._records() for a in x["annotations"]))
            file.write(f'],\n"categories": {json.dumps(self._categories)}}}\n')
        os.remove(self._path + "l")

    def _records(self) -> Iterator[dict[str, Any]]:
        self._lines.seek(0)
        return map(json.loads, self._lines)


def _separated(items: Iterator[str]) -> Iterator[str]:
    for i, item in enumerate(items):
        yield f"{',' if i else ''}\n{item}"
