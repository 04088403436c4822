"""Measure CPU time and memory of drawing instances over an image.

python -m benchmarks.drawing HEIGHT WIDTH INSTANCES
"""

from __future__ import annotations

import argparse
import resource
import time

import cv2
import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances

from centermask_solo.utils.errors import reported_errors
from centermask_solo.visualization.drawing import draw_predictions

NUM_CLASSES = 80
MIN_AXIS, MAX_AXIS = 0.02, 0.12  # half-axes of the ellipses, as fractions of the sides of the image


def random_instances(height: int, width: int, count: int, seed: int = 0) -> Instances:
    """Return predictions whose masks are ellipses at random places."""
    random = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), dtype=np.uint8)
    for mask in masks:
        center = (int(random.integers(width)), int(random.integers(height)))
        axes = (int(width * random.uniform(MIN_AXIS, MAX_AXIS)), int(height * random.uniform(MIN_AXIS, MAX_AXIS)))
        cv2.ellipse(mask, center, axes, float(random.uniform(0, 180)), 0, 360, 1, -1)
    classes = torch.arange(count) % NUM_CLASSES
    scores = torch.linspace(0.3, 0.99, count)
    return Instances(
        (height, width), scores=scores, pred_classes=classes, pred_masks=torch.from_numpy(masks.view(bool))
    )


def peak_memory() -> float:
    """Return the largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Draw, and print time and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("height", "width", "instances"):
        parser.add_argument(name, type=int)
    args = parser.parse_args()
    instances = random_instances(args.height, args.width, args.instances)
    image = np.random.default_rng(0).integers(0, 256, (args.height, args.width, 3), dtype=np.uint8)
    metadata = Metadata(name="drawing", thing_classes=[f"class {i}" for i in range(NUM_CLASSES)])
    memory, start = peak_memory(), time.process_time()
    draw_predictions(image, instances, metadata)
    seconds, more = time.process_time() - start, peak_memory() - memory
    print(
        f"{seconds:.2f} s of CPU time, {more:.0f} MiB beyond the image ({image.nbytes / 2**20:.0f} MiB) and its masks"
    )


if __name__ == "__main__":
    with reported_errors():
        main()
