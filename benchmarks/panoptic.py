"""Measure time and memory of panoptic SOLOv2 beside Detectron2's Panoptic FPN, both with a ResNet-50.

python -m benchmarks.panoptic [--device cuda] [--size 800 1216] [--runs 5] [--write]

The weights are random, and nothing is left out for its score or its overlap, so that each model finds 100 instances and
merges all of them: the most that an image can cost. The models take turns, so that a busy machine slows both alike.
Memory is the peak of all tensors beyond the model and its input; a training step has ten objects.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from detectron2.modeling import build_model
from torch import nn

from benchmarks.memory import peak_bytes
from benchmarks.processes import MB
from benchmarks.results_file import write_results
from benchmarks.scale import config, crowded_image, predict, train_step
from centermask_solo.modeling.option_scope import max_detections
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

MODELS: dict[str, dict[str, float]] = {  # and the options with which they keep whatever they find
    "SOLOv2/panoptic_solov2_R_50_3x.yaml": {
        "MODEL.SOLOV2.SCORE_THRESH_TEST": 0.0,
        "MODEL.SOLOV2.NMS.SCORE_THRESH": 0.0,
    },
    "baselines/panoptic_fpn_R_50_3x.yaml": {
        "MODEL.RPN.NMS_THRESH": 1.0,
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 1.0,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    },
}
PIXEL_STD = [1e4] * 3  # keeps the features of random weights, and so the boxes of Panoptic FPN, from exploding
COMBINE = "MODEL.PANOPTIC_FPN.COMBINE."


def build(name: str, device: str) -> tuple[nn.Module, int]:
    """Return a model with random weights that keeps and merges all it finds, and how many instances that can be."""
    torch.manual_seed(0)
    options = [x for pair in MODELS[name].items() for x in pair]
    cfg = config(name, *options, f"{COMBINE}INSTANCES_CONFIDENCE_THRESH", 0.0, f"{COMBINE}OVERLAP_THRESH", 1.0)
    cfg.MODEL.DEVICE, cfg.MODEL.PIXEL_STD = device, PIXEL_STD
    return build_model(cfg), max_detections(cfg)


def image_of(size: tuple[int, int]) -> dict[str, Any]:
    """Return an image with ten objects and stuff in horizontal bands."""
    x = crowded_image(config("SOLOv2/panoptic_solov2_R_50_3x.yaml"), 10, size)
    x["sem_seg"] = (torch.arange(size[0]) * 54 // size[0])[:, None].expand(size).clone()
    return x


def measure(device: str, size: tuple[int, int], runs: int) -> list[dict[str, Any]]:
    """Return the figures of each model."""
    image = image_of(size)
    models = {name: build(name, device) for name in MODELS}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    found: dict[str, int] = {}
    for _ in range(runs + 1):
        for name, (model, _) in models.items():
            wall, cpu = time.perf_counter(), time.process_time()
            found[name] = predict(model.eval(), [image])
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    results = []
    for name, (model, limit) in models.items():
        wall_s, cpu_s = (statistics.median(x) for x in zip(*seconds[name][1:], strict=True))  # the first run warms up
        row = {"config": name, "instances": found[name], "limit": limit, "size": list(size), "device": device}
        row |= {"wall_s": round(wall_s, 4), "cpu_s": round(cpu_s, 4), "images_per_s": round(1 / wall_s, 2)}
        row["prediction_mb"] = round(peak_bytes(lambda m=model: predict(m.eval(), [image]), device) / MB)
        row["training_mb"] = round(peak_bytes(lambda m=model: train_step(m.train(), [image]), device) / MB)
        results.append(row)
    return results


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(%(default)s)")
    parser.add_argument("--size", type=argument(COUNT), nargs=2, metavar=("HEIGHT", "WIDTH"), default=(800, 1216))
    parser.add_argument("--runs", type=argument(COUNT), default=5, help="timed runs of each model (%(default)s)")
    parser.add_argument("--threads", type=argument(COUNT), default=1, help="CPU threads (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/panoptic-*.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = measure(args.device, tuple(args.size), args.runs)
    for row in results:
        print(row, flush=True)
    if args.write:
        write_results("panoptic", results, args.device)


if __name__ == "__main__":
    with reported_errors():
        main()
