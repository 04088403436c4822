"""Measure COCO's metrics by each backend of ``TEST.EVAL_BACKEND``: seconds, memory, and whether the metrics are equal.

python -m benchmarks.coco_evaluation [--images 5000] [--detections 100] [--backends hotcoco pycocotools] [--write]

The ground truth is generated: 7.3 objects per image, in 80 classes and 640 x 480 pixels, 1 % of them crowds. The
detections are its objects, moved and confused, and random ones up to the number per image, with masks. Each backend
runs in a process of its own with one thread; memory is that of the process beyond ground truth and detections.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from pycocotools import mask as rle

from benchmarks.dataset_validation import HEIGHT, NUM_CLASSES, WIDTH, generate
from benchmarks.processes import cost, in_own_process
from benchmarks.results_file import write_results
from centermask_solo.evaluation.backends import BACKENDS, installed_backends
from centermask_solo.evaluation.mask_score import MaskScoreCOCOEvaluator
from centermask_solo.utils.errors import reported_errors

OBJECTS_PER_IMAGE = 7.3  # as in val2017
CORNERS = 24  # of a detection's outline
MOVED = 0.12  # most that a side of a true detection is moved, relative to the object's size
CONFUSED = 0.1  # share of true detections with another class
FOUND = 0.8  # share of objects with a detection
NAME = "generated_for_evaluation"


def detections(path: str, per_image: int) -> list[dict[str, Any]]:
    """Return the predictions for the images of a json as ``COCOEvaluator`` collects them."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    rng = np.random.default_rng(1)
    objects: dict[int, list[dict[str, Any]]] = {}
    for x in content["annotations"]:
        objects.setdefault(x["image_id"], []).append(x)
    predictions = []
    for image in content["images"]:
        found = [_moved(x, rng) for x in objects.get(image["id"], []) if rng.random() < FOUND]
        found += [_random(rng) for _ in range(per_image - len(found))]
        results = [_result(image["id"], *x, rng) for x in found[:per_image]]
        predictions.append({"image_id": image["id"], "instances": results})
    return predictions


def _moved(x: dict[str, Any], rng: np.random.Generator) -> tuple[int, float, np.ndarray]:
    """Return class, score and box (x, y, width, height) of a detection of an object."""
    box = np.array(x["bbox"]) + rng.uniform(-MOVED, MOVED, 4) * np.array(x["bbox"][2:] * 2)
    confused = rng.random() < CONFUSED
    return int(rng.integers(NUM_CLASSES) if confused else x["category_id"] - 1), rng.uniform(0.2, 1), box


def _random(rng: np.random.Generator) -> tuple[int, float, np.ndarray]:
    """Return class, score and box of a detection of nothing."""
    size = rng.uniform(8, 200, 2)
    return int(rng.integers(NUM_CLASSES)), rng.uniform(0.01, 0.5), np.array([*rng.uniform(0, (500, 400)), *size])


def _result(image_id: int, label: int, score: float, box: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    x, y = np.clip(box[:2], 0, (WIDTH - 2, HEIGHT - 2))
    w, h = np.clip(box[2:], 1, (WIDTH - x, HEIGHT - y))
    angles = np.arange(CORNERS) * (2 * np.pi / CORNERS)
    radii = rng.uniform(0.8, 1.0, CORNERS) / 2
    outline = np.stack([x + w * (0.5 + radii * np.cos(angles)), y + h * (0.5 + radii * np.sin(angles))], axis=1)
    code = rle.frPyObjects([outline.ravel().tolist()], HEIGHT, WIDTH)[0]
    mask = {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode("ascii")}
    box_xywh = [float(x), float(y), float(w), float(h)]
    return {"image_id": image_id, "category_id": label, "bbox": box_xywh, "score": score, "segmentation": mask}


def measure(path: str, predictions: str, backend: str, max_dets: int) -> dict[str, Any]:
    """Return what an evaluation took, and its metrics."""
    if NAME not in MetadataCatalog:
        register_coco_instances(NAME, {}, path, os.path.dirname(path))
    ids = {i: i - 1 for i in range(1, NUM_CLASSES + 1)}
    MetadataCatalog.get(NAME).set(
        thing_dataset_id_to_contiguous_id=ids, thing_classes=[f"class {i}" for i in range(NUM_CLASSES)]
    )
    evaluator = MaskScoreCOCOEvaluator(NAME, distributed=False, backend=backend, max_dets_per_image=max_dets)
    evaluator.reset()
    evaluator._predictions = torch.load(predictions, weights_only=False)
    metrics, found = cost(evaluator.evaluate)
    return {"backend": backend, **found.summary(), "metrics": metrics}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="per image (%(default)s)")
    parser.add_argument("--max-detections", type=int, default=100, help="that count, per image (%(default)s)")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, help="(default: those that are installed)")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/coco_evaluation-*.json")
    args = parser.parse_args()
    results: list[dict[str, Any]] = []
    reference = ""
    with tempfile.TemporaryDirectory() as folder:
        path, predictions = os.path.join(folder, "gt.json"), os.path.join(folder, "predictions.pth")
        generate(path, args.images, round(OBJECTS_PER_IMAGE * args.images), compressed=False)
        torch.save(detections(path, args.detections), predictions)
        for backend in args.backends or installed_backends():
            found = in_own_process(measure, path, predictions, backend, args.max_detections)
            metrics = found.pop("metrics")
            rounded = repr({task: {key: round(value, 9) for key, value in x.items()} for task, x in metrics.items()})
            reference = reference or rounded
            found["equal"] = rounded == reference
            found |= {task: {k: round(v, 3) for k, v in x.items() if "-" not in k} for task, x in metrics.items()}
            results.append(found)
            print(found, flush=True)
    if args.write:
        write_results("coco_evaluation", results)


if __name__ == "__main__":
    with reported_errors():
        main()
