"""CPU seconds of Detectron2's own ``DefaultPredictor`` with feature maps as (N, C, H, W) and as (N, H, W, C).

    python -m benchmarks.default_predictor [CONFIG ...] [--runs 5] [--write]

The two take turns, on one image, with one thread; norms are not fused, as ``DefaultPredictor`` knows nothing of that.
The weights are random: they do not change the time of the networks, but that of what follows, so that the report states
the number of detections.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

import numpy as np
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from benchmarks.results_file import write_results
from centermask_solo.model_zoo import get_config
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

MODELS = ("SOLOv2/solov2_R_50_3x.yaml", "CenterMask/centermask_V_39_eSE_FPN_ms_3x.yaml", "YOLACT/yolact_resnet50.yaml")
SIZE = (480, 640)  # height and width of the image
LAYOUTS = {"(N, C, H, W)": False, "(N, H, W, C)": True}


def measure(config: str, runs: int) -> dict[str, Any]:
    """Return the median CPU seconds and the number of detections of each layout."""
    cfg = get_config(config)
    cfg.MODEL.DEVICE = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        cfg.MODEL.WEIGHTS = os.path.join(folder, "random.pth")
        torch.save({"model": build_model(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
        predictors = {}
        for name, cfg.MODEL.CHANNELS_LAST in LAYOUTS.items():
            predictors[name] = DefaultPredictor(cfg)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    detections: dict[str, int] = {}
    for _ in range(runs + 1):
        for name, predictor in predictors.items():
            start = time.process_time()
            found = predictor(image)
            seconds[name].append(time.process_time() - start)
            detections[name] = len(found["instances"])
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first run warms up
    return {"config": config, "size": SIZE, "runs": runs, "seconds": medians, "detections": detections}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=MODELS, help="names in configs (default: one of each system)")
    parser.add_argument("--runs", type=argument(COUNT), default=3, help="timed runs of each (%(default)s)")
    parser.add_argument(
        "--write", action="store_true", help="add the results to benchmarks/results/default_predictor-*.json"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"PyTorch {torch.__version__}\n\n| model | {' | '.join(LAYOUTS)} | ratio | detections |")
    print("| --- | --- | --- | --- | --- |")
    results = []
    for config in args.configs:
        results.append(measure(config, args.runs))
        before, after = results[-1]["seconds"].values()
        counts = ", ".join(str(x) for x in results[-1]["detections"].values())
        print(f"| `{config}` | {before:.2f} s | {after:.2f} s | {before / after:.2f} | {counts} |", flush=True)
    if args.write:
        write_results("default_predictor", results, merge_by=("config",))


if __name__ == "__main__":
    with reported_errors():
        main()
