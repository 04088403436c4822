"""Seconds of SOLOv2's decoding and NMS for many candidates: each way of comparing masks, and fixed shapes.

    python -m benchmarks.solov2_decoding                      # 1,000 candidates of 80 classes, and of one
    python -m benchmarks.solov2_decoding --device cuda --runs 20 --write

The variants take turns, so that a busy machine slows all of them alike. On a CPU the figures are CPU seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.results_file import device_name, write_results
from benchmarks.solov2_memory import Case, build, predictions
from centermask_solo.modeling.detections import image_sizes_on
from centermask_solo.modeling.solov2.decode import decode_batch
from centermask_solo.ops.masks import batch_mask_iou, mask_iou
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

NUM_CANDIDATES = 1000
IMAGE_SIZE = (800, 1216)
CASES = {  # the share of the pairs that pass is such that there are a bit more than 1,000 candidates
    "80 classes": Case("80 classes", passing=0.0042, image_size=IMAGE_SIZE),
    "1 class": Case("1 class", passing=0.5, num_classes=1, image_size=IMAGE_SIZE),
}


def float32_products(masks: Tensor) -> Tensor:
    """Return the pixels that all pairs of masks (M, h, w) share, (M, M), by the plain way."""
    shared = torch.zeros(len(masks), len(masks), device=masks.device)
    for chunk in masks.flatten(1).split(2**23 // len(masks), dim=1):
        values = chunk.float()
        shared.addmm_(values, values.T)
    return shared


def measure(case: Case, device: str, runs: int) -> dict[str, Any]:
    """Return the median seconds of each part of the decoding of one image, and its number of candidates."""
    model, outputs = build(case, device), predictions(case, device)
    model.test_max_candidates = NUM_CANDIDATES

    def decode() -> dict[str, Tensor]:
        return next(decode_batch(*outputs, **model.decode_options()))._asdict()

    found = decode()
    masks, classes = found["pred_masks"], found["pred_classes"]
    sizes = image_sizes_on(model.device, [IMAGE_SIZE])
    stages: dict[str, Callable[[], object]] = {
        "decode": decode,
        "NMS": lambda: model.keep(found, IMAGE_SIZE),
        "decode and NMS, fixed shapes": lambda: model.detect(outputs, sizes, model.test_max_detections),
        "IoU of all pairs, float32": lambda: float32_products(masks),
        "IoU of all pairs": lambda: mask_iou(masks),
        "IoU within classes": lambda: mask_iou(masks, classes),
        "IoU of all pairs, fixed shapes": lambda: batch_mask_iou(masks[None]),
    }
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(runs + 1):
        for name, stage in stages.items():
            start = clock()
            stage()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(clock() - start)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first run warms up
    return {"case": case.what, "candidates": len(masks), "seconds": medians}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--runs", type=argument(COUNT), default=5, help="timed runs, of which the median is reported")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/solov2_decoding-*.json")
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)
    print(f"{device_name(args.device)}, PyTorch {torch.__version__}")
    results = []
    for case in CASES.values():
        results.append(measure(case, args.device, args.runs))
        print(f"{case.what}: {results[-1]['candidates']} candidates")
        for name, value in results[-1]["seconds"].items():
            print(f"  {name:32s} {1000 * value:8.1f} ms", flush=True)
    if args.write:
        write_results("solov2_decoding", results, args.device, runs=args.runs)


if __name__ == "__main__":
    with reported_errors():
        main()
