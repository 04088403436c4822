"""Measure the start of training and evaluation on a large json: until the first image is asked for.

python -m benchmarks.large_json [--images 100000] [--annotations 730000] [--folder FOLDER] [--write]

The json is that of ``dataset_validation``; the images are equal and black. A folder that has both is used as it is.
Training and evaluation run in a process each, with one thread, and with a small SOLOv2. Memory is that of the process
beyond the libraries; "kept" is what remains for the run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

import cv2
import numpy as np

from benchmarks.dataset_validation import HEIGHT, WIDTH, generate
from benchmarks.processes import cost, in_own_process
from benchmarks.results_file import write_results
from centermask_solo.training.setup import setup_cfg
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils.errors import reported_errors


def prepare(folder: str, num_images: int, num_annotations: int) -> None:
    """Write ``large.json`` and its images into a folder, unless they exist."""
    path, images = os.path.join(folder, "large.json"), os.path.join(folder, "images")
    if not os.path.exists(path):
        generate(path, num_images, num_annotations, compressed=False)
    os.makedirs(images, exist_ok=True)
    content = cv2.imencode(".jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
    for i in range(len(os.listdir(images)), num_images):
        with open(os.path.join(images, f"{i:012}.jpg"), "wb") as file:
            file.write(content)


def measure(folder: str, training: bool) -> dict[str, Any]:
    """Measure the start of training or of evaluation."""
    data = ["large", os.path.join(folder, "large.json"), os.path.join(folder, "images")]
    opts = ["DATASETS.COCO_JSON", [data], "DATASETS.TRAIN", ("large",), "DATASETS.TEST", ("large",)]
    opts += ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "OUTPUT_DIR", os.path.join(folder, "output")]
    options = {"opts": list(map(str, opts)), "resume": False, "eval_only": not training}
    args = argparse.Namespace(config_file="shapes/solov2_shapes.yaml", **options)

    def start() -> Any:
        cfg = setup_cfg(args)
        if training:
            return Trainer(cfg)
        model = Trainer.build_model(cfg)
        return model, Trainer.build_test_loader(cfg, "large"), Trainer.build_evaluator(cfg, "large")

    _started, found = cost(start)
    kept = round(found.after_mb - found.before_mb)
    return {"what": "training" if training else "evaluation", **found.summary(), "kept_mb": kept}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--annotations", type=int, default=730_000)
    parser.add_argument("--folder", help="where json and images are, or are written (default: a temporary folder)")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/large_json_<images>-*.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or temporary
        prepare(folder, args.images, args.annotations)
        sizes = {"images": args.images, "annotations": args.annotations}
        results = [{**sizes, **in_own_process(measure, folder, training)} for training in (True, False)]
    print(*results, sep="\n")
    if args.write:
        write_results(f"large_json_{args.images}", results)


if __name__ == "__main__":
    with reported_errors():
        main()
