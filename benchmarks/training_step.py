"""Measure a training step: CPU time of the targets and of all of it, and the peak memory of all tensors.

    python -m benchmarks.training_step [CONFIG ... --size HEIGHT WIDTH] [--objects 8] [--images 2] [--runs 3] [--write]

An object is a polygon of 35 points, as many as in COCO; images and weights are random. One thread, medians of the runs.
It also measures earlier versions of this repository, in a folder of their own:

    git worktree add ../before COMMIT && PYTHONPATH=../before python benchmarks/training_step.py
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from typing import Any

import torch
from detectron2.config import get_cfg
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import Tensor

from benchmarks.memory import peak_bytes
from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils.errors import reported_errors

MODELS = {
    "SOLOv2/solov2_R_18_light448_3x.yaml": (448, 608),
    "CenterMask/centermask_lite_Mv2_FPN_ms_4x.yaml": (608, 800),
    "YOLACT/yolact_resnet50.yaml": (550, 550),
}
POINTS = 35  # of a polygon
MB = 10**6


def example(cfg: Any, size: tuple[int, int], count: int, seed: int) -> dict[str, Any]:
    """Return a training input with ``count`` wavy ellipses of 5 to 40 % of the sides of ``size`` (height, width)."""
    rng = torch.Generator().manual_seed(seed)
    sides = torch.tensor([size[1], size[0]], dtype=torch.float64)
    angles = torch.arange(POINTS, dtype=torch.float64) * (2 * math.pi / POINTS)
    polygons = []
    for _ in range(count):
        radii = sides * (0.025 + 0.175 * torch.rand(2, generator=rng, dtype=torch.float64))
        center = radii + (sides - 2 * radii) * torch.rand(2, generator=rng, dtype=torch.float64)
        waves = 1 - 0.3 * torch.rand(POINTS, 1, generator=rng, dtype=torch.float64)
        polygons.append((center + radii * waves * torch.stack([angles.cos(), angles.sin()], dim=1)).flatten().numpy())
    masks = PolygonMasks([[x] for x in polygons])
    boxes = masks.get_bounding_boxes()
    instances = Instances(size, gt_boxes=Boxes(boxes.tensor), gt_classes=torch.arange(count) % 8)
    instances.gt_masks = BitMasks.from_polygon_masks(masks, *size) if cfg.INPUT.MASK_FORMAT == "bitmask" else masks
    return {"image": torch.rand(3, *size, generator=rng) * 255, "instances": instances}


def measure(config: str, size: tuple[int, int], images: int, objects: int, runs: int) -> tuple[float, float, int]:
    """Return the CPU seconds of targets and of a whole step, and the peak bytes of its tensors."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, config, ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
    torch.manual_seed(0)
    model: Any = Trainer.build_model(cfg).train()
    if hasattr(Trainer, "prepare_training"):  # earlier versions prepare no more
        model = Trainer.prepare_training(cfg, model)
    inputs = [example(cfg, size, objects, seed) for seed in range(images)]
    label, seconds = model.label, [0.0]

    def timed_label(*args: Any) -> Any:
        start = time.process_time()
        targets = label(*args)
        seconds[0] = time.process_time() - start
        return targets

    model.label = timed_label

    def step() -> None:
        with EventStorage():
            losses: dict[str, Tensor] = model(inputs)
        sum(losses.values()).backward()
        model.zero_grad()

    targets, steps = [], []
    memory = peak_bytes(step, "cpu")  # which also warms up
    for _ in range(runs):
        start = time.process_time()
        step()
        steps.append(time.process_time() - start)
        targets.append(seconds[0])
    return statistics.median(targets), statistics.median(steps), memory


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=list(MODELS))
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="pixels of CONFIG's images")
    parser.add_argument("--images", type=int, default=2, help="images of a batch (%(default)s)")
    parser.add_argument("--objects", type=int, default=8, help="objects in each (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="timed steps (%(default)s)")
    parser.add_argument(
        "--write", action="store_true", help="add the results to benchmarks/results/training_step-*.json"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for config in args.configs:
        size = tuple(args.size) if args.size else MODELS[config]
        targets, whole, memory = measure(config, size, args.images, args.objects, args.runs)
        print(f"{config}: targets {targets:.3f} s, step {whole:.2f} s, {memory / MB:.0f} MB", flush=True)
        case = {"config": config, "size": size, "images": args.images, "objects": args.objects, "runs": args.runs}
        results.append(case | {"targets_s": targets, "step_s": whole, "peak_mb": memory / MB})
    if args.write:
        from benchmarks.results_file import write_results  # which earlier versions lack

        write_results("training_step", results, merge_by=("config", "size", "images", "objects"))


if __name__ == "__main__":
    with reported_errors():
        main()
