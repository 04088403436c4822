"""Measure the CPU time of a training step with feature maps as (N, C, H, W) and as (N, H, W, C).

    python -m benchmarks.training_layouts YOLACT/yolact_resnet50.yaml --size 550 550 [--batch 2] [--amp] [--write]

The first is how Detectron2 trains, the second, with 1 x 1 convolutions by oneDNN, how this package does. The images and
the weights are those of ``training_memory``. The layouts take turns, each with its own copy of the model
and one thread; CPU time is meaningful on a busy machine, too.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from typing import Any

import torch
from detectron2.utils.events import EventStorage
from torch import nn

from benchmarks.results_file import device_name, write_results
from benchmarks.training_memory import build, example
from centermask_solo.modeling.channels_last import to_channels_last, use_onednn
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument


def seconds_of_step(model: nn.Module, inputs: list[dict[str, Any]], amp: bool) -> float:
    """Return the CPU time of losses and gradients of a batch."""
    start = time.process_time()
    with EventStorage(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        losses = model(inputs)
    sum(losses.values()).backward()
    model.zero_grad()
    return time.process_time() - start


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config_file")
    parser.add_argument("--size", type=argument(COUNT), nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=argument(COUNT), default=2, help="images (%(default)s)")
    parser.add_argument("--runs", type=argument(COUNT), default=5, help="measured steps of each (%(default)s)")
    parser.add_argument("--amp", action="store_true", help="half precision, as SOLVER.AMP.ENABLED")
    parser.add_argument(
        "--write", action="store_true", help="add the results to benchmarks/results/training_layouts-*.json"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    contiguous = build(args.config_file, "cpu", "MODEL.CHANNELS_LAST", False)
    channels_last = to_channels_last(copy.deepcopy(contiguous))
    use_onednn(channels_last)  # as the trainer does
    models = {"(N, C, H, W)": contiguous, "(N, H, W, C)": channels_last}
    inputs = [example((args.size[0], args.size[1]), seed) for seed in range(args.batch)]
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(args.runs + 1):
        for name, model in models.items():
            seconds[name].append(seconds_of_step(model, inputs, args.amp))
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first one warms up
    a, b = medians.values()
    print(f"{device_name('cpu')}, PyTorch {torch.__version__}, {args.config_file}, {args.batch} images of {args.size}")
    print(", ".join(f"{name}: {value:.2f} s" for name, value in medians.items()) + f", ratio {a / b:.2f}")
    if args.write:
        case = {"config": args.config_file, "size": args.size, "batch": args.batch, "amp": args.amp, "runs": args.runs}
        write_results("training_layouts", [case | {"seconds": medians}], merge_by=("config", "size", "batch", "amp"))


if __name__ == "__main__":
    with reported_errors():
        main()
