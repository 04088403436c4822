"""Measure the validation of a json as large as COCO's train2017, generated with a fixed seed.

    python -m benchmarks.dataset_validation [--images 118000] [--annotations 860000] [--json large.json] [--compressed]

It reports the seconds and the peak memory of reading the json and of the pass over it, and what the pass found. A json
that exists is not generated again; without ``--json`` it is a temporary file.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from pycocotools import mask as rle

from centermask_solo.data.formats.coco import read_coco_json
from centermask_solo.data.validation.inspection import inspect
from centermask_solo.utils.errors import reported_errors

WIDTH, HEIGHT = 640, 480
NUM_CLASSES = 80
MEAN_POINTS = 35  # of a polygon, as in COCO


def generate(path: str, num_images: int, num_annotations: int, compressed: bool) -> None:
    """Write a json of random outlines in 640 x 480 images; 1 % are crowds as uncompressed RLE.

    Args:
        path: File to write.
        num_images: Number of images.
        num_annotations: Number of annotations.
        compressed: Whether masks are compressed RLE instead of polygons.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {}, "categories": ')
        json.dump([{"id": i, "name": f"class {i}"} for i in range(1, NUM_CLASSES + 1)], file)
        file.write(', "images": ')
        json.dump(
            [{"id": i, "file_name": f"{i:012}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(num_images)], file
        )
        file.write(', "annotations": [')
        for i, annotation in enumerate(_annotations(num_images, num_annotations, compressed)):
            file.write((",\n" if i else "") + json.dumps(annotation))
        file.write("]}")


def _annotations(num_images: int, count: int, compressed: bool) -> Iterator[dict]:
    rng = np.random.default_rng(0)
    for i in range(1, count + 1):
        points = int(rng.integers(6, 2 * MEAN_POINTS - 6))
        angles = np.arange(points) * (2 * np.pi / points)
        size = rng.uniform(4, 120)
        radii = size * rng.uniform(0.6, 1.0, (2, points))
        x = np.clip(rng.uniform(20, WIDTH - 20) + radii[0] * np.cos(angles), 0, WIDTH)
        y = np.clip(rng.uniform(20, HEIGHT - 20) + radii[1] * np.sin(angles), 0, HEIGHT)
        polygon = np.stack([x, y], axis=1).round(2)
        (x0, y0), (x1, y1) = polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()
        segmentation: object = [polygon.ravel().tolist()]
        crowd = i % 100 == 0
        if crowd:
            first = int(x0) * HEIGHT + int(y0)
            runs = [first]
            height, columns = max(int(y1 - y0), 1), max(int(x1 - x0), 1)
            for _ in range(columns):
                runs += [height, HEIGHT - height]
            runs[-1] += WIDTH * HEIGHT - sum(runs)
            segmentation = {"size": [HEIGHT, WIDTH], "counts": runs}
        elif compressed:
            code = rle.merge(rle.frPyObjects(segmentation, HEIGHT, WIDTH))
            segmentation = {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode("ascii")}
        yield {
            "id": i,
            "image_id": int(rng.integers(num_images)),
            "category_id": int(rng.integers(1, NUM_CLASSES + 1)),
            "iscrowd": int(crowd),
            "area": round((x1 - x0) * (y1 - y0), 2),
            "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
            "segmentation": segmentation,
        }


def measure(path: str) -> None:
    """Print the time and the peak memory of reading and checking a json."""
    start = time.perf_counter(), time.process_time()
    data = read_coco_json(path)
    _report(f"read {os.path.getsize(path) / 2**20:.0f} MiB", start)
    start = time.perf_counter(), time.process_time()
    found = inspect(data)
    _report(f"checked {len(data.images)} images, {len(data.annotations)} annotations", start)
    for x in found.findings:
        print(f"{x.count} x {x.rule.title}, such as {x.examples[0]}")


def _report(what: str, start: tuple[float, float]) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"{what}: {wall:.1f} s ({cpu:.1f} s of CPU), peak memory {peak:.2f} GiB", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--annotations", type=int, default=860_000)
    parser.add_argument("--json", help="file to write, or to measure if it exists")
    parser.add_argument("--compressed", action="store_true", help="masks as compressed RLE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.json or os.path.join(folder, "large.json")
        if not os.path.exists(path):
            generate(path, args.images, args.annotations, args.compressed)
        measure(path)


if __name__ == "__main__":
    with reported_errors():
        main()
