"""Measure the memory that ``predict --tile`` takes for large images.

python -m benchmarks.tiles [--sides 2500 5000 10000] [--tile 1024] [--overlap 0.2]

For each side, a square image of a thousand disks and of a ring as large as the image is written to a file and predicted
as the command does it, by a stand-in for a model that finds every color exactly, so that what is measured is the image
and what tiles cost beside it; a real model adds what it takes for one batch of tiles, whatever the image. Printed are
the highest memory of the process beyond that before, the same with the picture drawn, and the worst IoU of an object.
Each side runs in a process of its own, in which nothing is left of the others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances

from centermask_solo.inference.filters import Filters
from centermask_solo.inference.outputs import Outputs
from centermask_solo.inference.predictions import predict_items
from centermask_solo.inference.sources import Sources
from centermask_solo.inference.tiling import TiledPredictor, Tiles
from centermask_solo.structures.compact_masks import CroppedMasks
from centermask_solo.structures.rle_codes import Window, decode_window
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.memory import forget_highest, highest_resident_bytes, resident_bytes
from centermask_solo.utils.rules import COUNT, PROBABILITY, argument

MIB = 2**20
NUM_DISKS = 1000


def color_of(number: int) -> tuple[int, int, int]:
    """Return the color (BGR) of an object."""
    return number % 256, number // 256, 255


def numbers_of(image: Any) -> Any:
    """Return the number of the object at each pixel, from 1; 0 for none."""
    return np.where(image[..., 2] == 255, image[..., 0] + 256 * image[..., 1].astype(np.int32) + 1, 0)


def circles(side: int) -> list[tuple[tuple[int, int], int, int]]:
    """Return center, radius and line width of each object; the first is the ring around the others."""
    columns = int(NUM_DISKS**0.5) + 1
    step = side * 2 // 3 / columns
    found = [((side // 2, side // 2), side * 19 // 40, max(side // 50, 3))]
    for i in range(NUM_DISKS):
        x, y = (round(side / 6 + step * (n + 0.5)) for n in (i % columns, i // columns))
        found.append(((x, y), round(step * (0.1 + 0.3 * (i % 7) / 6)), -1))
    return found


def write_image(path: str, side: int) -> None:
    """Write the objects of an image, in the order of their colors."""
    image = np.zeros((side, side, 3), np.uint8)
    for number, (center, radius, width) in enumerate(circles(side)):
        cv2.circle(image, center, radius, color_of(number), width)
    cv2.imwrite(path, image)


class ColorPredictor:
    """Finds an instance for each color but black."""

    def __init__(self) -> None:
        self.metadata = Metadata(name="tiles", thing_classes=["object"])
        self.score_threshold, self.threads, self.max_detections = 0.3, 0, NUM_DISKS + 1
        self.channels, self.max_pixels = 3, 0

    def predict_images(self, images: Any, score_threshold: float | None = None) -> list[dict[str, Any]]:
        """Return the instances of each tile."""
        del score_threshold
        return [{"instances": self._find(image)} for image in images]

    def _find(self, image: Any) -> Instances:
        numbers, windows = numbers_of(image), []
        for number in np.unique(numbers[numbers > 0]):
            mask = numbers == number
            x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
            windows.append(Window(x, y, mask[y : y + h, x : x + w].copy()))
        found = Instances(image.shape[:2], pred_masks=CroppedMasks(windows, image.shape[:2]))
        found.pred_boxes = Boxes(found.pred_masks.boxes())
        found.scores = torch.full((len(windows),), 0.9)
        found.pred_classes = torch.zeros(len(windows), dtype=torch.int64)
        return found


def worst_iou(image: Any, instances: Instances) -> float:
    """Return the lowest IoU of an instance with the object whose color it has."""
    sizes = sum(np.bincount(numbers_of(row), minlength=NUM_DISKS + 2) for row in image)
    worst = 1.0
    for code in instances.pred_masks.codes:
        left, top, pixels = decode_window(code)
        inside = numbers_of(image[top : top + pixels.shape[0], left : left + pixels.shape[1]])[pixels]
        number = int(np.median(inside))
        shared = np.count_nonzero(inside == number)
        worst = min(worst, shared / (len(inside) + sizes[number] - shared))
    return worst


def measure(side: int, tiles: Tiles) -> None:
    """Print the figures of one side."""
    tiled = TiledPredictor(ColorPredictor(), tiles)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "image.png")
        write_image(path, side)
        before = resident_bytes()
        forget_highest()
        start = time.monotonic()
        (found,) = predict_items(tiled, Sources([path], 1), Filters())
        seconds, found_bytes = time.monotonic() - start, highest_resident_bytes() - before
        Outputs(pictures=True).write(found, folder, "image")
        drawn_bytes = highest_resident_bytes() - before
    print(
        f"{side} x {side}: {found_bytes / MIB:.0f} MiB, of which the image takes {3 * side * side / MIB:.0f}, and "
        f"{drawn_bytes / MIB:.0f} with the picture; {len(found.instances)} instances of {NUM_DISKS + 1} objects, worst "
        f"IoU {worst_iou(found.image, found.instances):.3f}, {seconds:.0f} s",
        flush=True,
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=argument(COUNT), nargs="+", default=[2500, 5000, 10_000], help="in pixels")
    parser.add_argument("--tile", type=argument(COUNT), default=1024, help="in pixels (%(default)s)")
    parser.add_argument("--overlap", type=argument(PROBABILITY, float), default=0.2, help="(%(default)s)")
    args = parser.parse_args()
    if len(args.sides) == 1:
        measure(args.sides[0], Tiles(args.tile, args.overlap))
        return
    for side in args.sides:
        options = ["--sides", str(side), "--tile", str(args.tile), "--overlap", str(args.overlap)]
        subprocess.run([sys.executable, "-m", "benchmarks.tiles", *options], check=True)


if __name__ == "__main__":
    with reported_errors():
        main()
