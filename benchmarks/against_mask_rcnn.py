"""Compare prediction of each system with Detectron2's Mask R-CNN: the same input, backbone and number of detections.

    python -m benchmarks.against_mask_rcnn [--systems SOLOv2 YOLACT] [--runs 5] [--device cuda] [--write]

Images are generated in the size of the network's input, and the weights are random, which does not change the time of
the networks. All thresholds of scores are 0, so that both models decode, and both make masks of, as many objects as
they ever do: 100. The two take turns. ``--write`` writes a json into results/.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from detectron2.config import CfgNode

from benchmarks.results_file import write_report
from centermask_solo.config import value_of
from centermask_solo.config.trees import flatten
from centermask_solo.inference.benchmark import benchmark
from centermask_solo.inference.benchmark_report import format_report
from centermask_solo.model_zoo import get_config
from centermask_solo.modeling.systems import find_system
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

MASK_RCNN = "baselines/mask_rcnn_R_50_FPN_3x.yaml"
PAIRS = {  # config of a ResNet-50 with the (height, width) of its published input
    "SOLOv2": ("SOLOv2/solov2_R_50_3x.yaml", (800, 1216)),
    "CenterMask": ("CenterMask/centermask_R_50_FPN_ms_3x.yaml", (800, 1216)),
    "YOLACT": ("YOLACT/yolact_resnet50.yaml", (550, 550)),
}
QUIET = 1e3  # divides the pixels, so that random networks find different boxes instead of the whole image everywhere


def config(name: str, size: tuple[int, int], device: str | None) -> CfgNode:
    """Return a config without weights that leaves images of ``size`` as they are and drops no detection."""
    cfg = get_config(name)
    cfg.MODEL.WEIGHTS = ""
    if device:
        cfg.MODEL.DEVICE = device
    cfg.MODEL.PIXEL_STD = [QUIET] * len(cfg.MODEL.PIXEL_STD)
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = min(size), max(size)
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    assert system is not None
    group = system.instead["SCORE_THRESH_TEST"].removeprefix("MODEL.").partition(".")[0]
    for key in flatten(cfg):
        if key.startswith(f"MODEL.{group}.") and re.search(r"SCORE_THRESH(_TEST)?$", key):
            cfg.merge_from_list([key, type(value_of(cfg, key))(0)])
    return cfg


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=PAIRS, default=list(PAIRS), help="(default: all)")
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    parser.add_argument("--batch-size", type=argument(COUNT), default=1)
    parser.add_argument("--runs", type=argument(COUNT), default=5)
    parser.add_argument("--threads", type=argument(COUNT), default=1)
    parser.add_argument("--cpu-time", action="store_true", help="instead of the wall, on a busy machine")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/against_mask_rcnn-*.json")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for system in args.systems:
        name, size = PAIRS[system]
        cfgs = {x: config(x, size, args.device) for x in (name, MASK_RCNN)}
        options = {"batch_size": args.batch_size, "runs": args.runs, "threads": args.threads}
        report = benchmark(cfgs, size=size, cpu_time=args.cpu_time, **options)
        print(f"{format_report(report)}\n", flush=True)
        found[system] = report.to_json()
    if args.write:
        on_gpu = report.measured[0].device.startswith("cuda")
        write_report("against_mask_rcnn", found, "cuda" if on_gpu else "cpu")


if __name__ == "__main__":
    with reported_errors():
        main()
