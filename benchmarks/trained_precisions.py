"""What bfloat16, int8 and float16 cost trained weights: AP, and how far the detections are from those in float32.

    python -m benchmarks.trained_precisions model_final.pth [MORE.pth ...] --annotations JSON --images FOLDER [--write]
        [--precisions float32 float16] [--no-exceptions]

A CPU has bfloat16 and int8, a GPU (--device cuda) float16 and bfloat16; --precisions chooses, among them float16 on a
CPU, which computes it slowly. Each file is evaluated on the dataset in each precision, and its detections from the
threshold of its system on are paired with those in float32, of the same class and with an IoU of at least 0.5. int8 is
calibrated on some images. --no-exceptions shows what the parts are good for that prediction keeps in float32: all
networks are in the precision then.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

import centermask_solo
from benchmarks.processes import in_own_process
from benchmarks.results_file import write_results
from centermask_solo.data.datasets import load_dataset, register_datasets
from centermask_solo.inference.calibration import calibrate_to_file, compare_precisions
from centermask_solo.inference.predictor import Predictor
from centermask_solo.model_zoo.lookup import load_cfg
from centermask_solo.modeling import engine
from centermask_solo.modeling.backbone.mobilenet import MobileNetV2
from centermask_solo.modeling.systems import default_score_threshold
from centermask_solo.training.evaluate import evaluate
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

PRECISIONS = {"cpu": ("float32", "bfloat16", "int8"), "cuda": ("float32", "float16", "bfloat16")}
DATASET = "benchmark_trained_precisions"
HEADERS = ("model", "precision", "mask AP / box AP", "matched of float32's, found", "mask IoU", "score difference")


def measure(
    weights: str,
    annotations: str,
    images: str,
    count: int,
    device: str,
    precisions: Sequence[str],
    exceptions: bool,
) -> dict[str, Any]:
    """Return what each of the precisions, of which the first is float32, costs the weights of a file."""
    torch.set_num_threads(1)
    centermask_solo.register()
    engine.check_dtype = lambda *_: None  # it refuses float16 on a CPU, which is slow there
    MobileNetV2.needs_float32 = exceptions
    cfg = load_cfg(weights)
    cfg.merge_from_list(["MODEL.DEVICE", device, "DATASETS.COCO_JSON", [[DATASET, annotations, images]]])
    cfg.DATASETS.TEST, cfg.DATALOADER.NUM_WORKERS = (DATASET,), 0
    register_datasets(cfg)
    paths = [x["file_name"] for x in load_dataset(DATASET)]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cfg.OUTPUT_DIR = folder
        if "int8" in precisions:
            cfg.TEST.INT8_RANGES = os.path.join(folder, "int8.json")
            calibrate_to_file(cfg, paths, cfg.TEST.INT8_RANGES, count=count)
        exact = Predictor(cfg, dtype="float32")
        for cfg.TEST.DTYPE in precisions:
            found[cfg.TEST.DTYPE] = {task: x["AP"] for task, x in evaluate(cfg).items() if "AP" in x}
            if cfg.TEST.DTYPE != "float32":
                agreement = compare_precisions(exact, Predictor(cfg), paths, default_score_threshold(cfg))
                found[cfg.TEST.DTYPE] |= agreement._asdict()
    name = cfg.MODEL.META_ARCHITECTURE
    case = {"model": name, "images": len(paths), "compared": precisions, "exceptions": exceptions}
    return case | {"precisions": found}


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as a table."""
    rows = []
    for result in results:
        for name, x in result["precisions"].items():
            row = [result["model"], name, f"{x['segm']:.2f} / {x['bbox']:.2f}"]
            if "matched" in x:
                row += [
                    f"{x['matched']} of {x['reference']}, {x['found']}",
                    f"{x['mean_iou']:.4f}",
                    f"{x['score']:.4f}",
                ]
            rows.append(row)
    return tabulate(rows, HEADERS, tablefmt="github", disable_numparse=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="trained weights with masks")
    parser.add_argument("--annotations", required=True, help="COCO json of the images")
    parser.add_argument("--images", required=True, help="their folder")
    parser.add_argument("--count", type=argument(COUNT), default=25, help="images for int8 (%(default)s)")
    parser.add_argument("--device", choices=PRECISIONS, default="cpu", help="(%(default)s)")
    parser.add_argument("--precisions", nargs="+", choices=engine.DTYPES, help="besides float32 (those of the device)")
    parser.add_argument(
        "--no-exceptions", action="store_true", help="compute parts that need float32 in the precision, too"
    )
    parser.add_argument("--write", action="store_true", help="write the results to benchmarks/results")
    args = parser.parse_args()
    annotations, images = (str(Path(x).resolve()) for x in (args.annotations, args.images))
    precisions = tuple(dict.fromkeys(("float32", *(args.precisions or PRECISIONS[args.device]))))
    options = (annotations, images, args.count, args.device, precisions, not args.no_exceptions)
    results = [in_own_process(measure, x, *options) for x in args.weights]
    print(table(results))
    if args.write:
        write_results(
            "trained_precisions", results, args.device, merge_by=("model", "images", "compared", "exceptions")
        )


if __name__ == "__main__":
    with reported_errors():
        main()
