"""CPU seconds of a model's networks: as built, with fused norms, in the channels-last layout, in bfloat16, compiled.

    python -m benchmarks.engine                      # one published model of each system, one thread
    python -m benchmarks.engine SOLOv2/solov2_R_50_3x.yaml --size 800 1216 --runs 5 [--compile] [--write]

The variants take turns, so that a busy machine slows all of them alike. The weights are random: they do not change the
time of the networks, and nothing is decoded. ``--compile`` takes minutes for each model, which are not counted.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from detectron2.modeling import build_model

from benchmarks.results_file import write_results
from centermask_solo.model_zoo import get_config
from centermask_solo.modeling.engine import cpu_has_bfloat16, prepare
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

MODELS = {
    "SOLOv2/solov2_R_50_3x.yaml": (800, 1216),
    "CenterMask/centermask_V_39_eSE_FPN_ms_3x.yaml": (800, 1216),
    "CenterMask/centermask_lite_Mv2_FPN_ms_4x.yaml": (576, 768),
    "YOLACT/yolact_resnet50.yaml": (550, 550),
}
VARIANTS: dict[str, Callable[[torch.nn.Module], torch.nn.Module]] = {
    "as built": lambda model: model,
    "fused": lambda model: prepare(model, channels_last=False),
    "fused, channels last": prepare,
    "bfloat16": lambda model: prepare(model, dtype="bfloat16"),
}
COMPILED: dict[str, Callable[[torch.nn.Module], torch.nn.Module]] = {
    "compiled": lambda model: prepare(model, compile=True),
    "bfloat16, compiled": lambda model: prepare(model, dtype="bfloat16", compile=True),
}


def measure(config: str, size: tuple[int, int], runs: int, compiled: bool) -> dict[str, Any]:
    """Return the median CPU seconds of the networks of each variant, for one image of ``size`` (height, width)."""
    cfg = get_config(config)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.CHANNELS_LAST = "cpu", "", False
    model = build_model(cfg).eval()
    variants = VARIANTS | (COMPILED if compiled else {})
    models = {name: make(copy.deepcopy(model)) for name, make in variants.items()}
    image = torch.randn(1, 3, *size)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(runs + 1):
        for name, variant in models.items():
            start = time.process_time()
            with torch.no_grad():
                variant.predict(image)  # type: ignore[operator]
            seconds[name].append(time.process_time() - start)
    medians = {
        name: statistics.median(values[1:]) for name, values in seconds.items()
    }  # the first run warms up, or compiles
    return {"config": config, "size": size, "runs": runs, "seconds": medians}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", help="name in configs (default: one model of each system)")
    parser.add_argument("--size", type=argument(COUNT), nargs=2, metavar=("HEIGHT", "WIDTH"), default=(800, 1216))
    parser.add_argument("--runs", type=argument(COUNT), default=3, help="timed runs of each variant (%(default)s)")
    parser.add_argument("--threads", type=argument(COUNT), default=1, help="CPU threads (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="also measure compiled networks")
    parser.add_argument("--write", action="store_true", help="add the results to benchmarks/results/engine-*.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    names = [*VARIANTS, *(COMPILED if args.compile else ())]
    print(f"PyTorch {torch.__version__}, {args.threads} thread(s), bfloat16 instructions: {cpu_has_bfloat16()}")
    print(f"Networks alone, without decoding\n\n| model | input | {' | '.join(names)} |")
    print(f"| --- | --- |{' --- |' * len(names)}")
    results = []
    for config, size in {args.config: tuple(args.size)}.items() if args.config else MODELS.items():
        results.append(measure(config, size, args.runs, args.compile))
        cells = (f"{x:.2f} s" for x in results[-1]["seconds"].values())
        print(f"| {config} | {size[0]} x {size[1]} | {' | '.join(cells)} |", flush=True)
    if args.write:
        write_results("engine", results, merge_by=("config", "size"))


if __name__ == "__main__":
    with reported_errors():
        main()
