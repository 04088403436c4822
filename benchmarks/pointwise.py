"""CPU milliseconds of 1 x 1 convolutions in the channels-last layout with one thread: PyTorch's choice, and oneDNN.

    python -m benchmarks.pointwise [--runs 5] [--write]

The least of interleaved runs; see ``use_onednn`` of ``centermask_solo/modeling/channels_last.py``.
"""

from __future__ import annotations

import argparse
import copy
import time

import torch
from torch import Tensor, nn

from benchmarks.results_file import write_results
from centermask_solo.modeling.channels_last import to_channels_last, use_onednn
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

CASES = {  # images, channels in and out, height, width
    "ResNet-50, res2": (1, 256, 64, 200, 304),
    "ResNet-50, res3": (1, 512, 128, 100, 152),
    "ResNet-50, res5": (1, 2048, 512, 25, 38),
    "VoVNet-39, stage 2": (1, 1056, 256, 100, 152),
    "FPN, level 2": (1, 256, 256, 200, 304),
}


def seconds(conv: nn.Module, x: Tensor, *, is_training: bool) -> float:
    """Return the CPU seconds of a convolution, in training with its gradients."""
    start = time.process_time()
    with torch.set_grad_enabled(is_training):
        y = conv(x)
    if is_training:
        y.sum().backward()
    return time.process_time() - start


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=argument(COUNT), default=5, help="timed runs of each (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/pointwise-*.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| input | | PyTorch's choice | oneDNN |\n| --- | --- | --- | --- |")
    results = []
    for name, (images, channels, outputs, height, width) in CASES.items():
        plain = to_channels_last(nn.Conv2d(channels, outputs, 1))
        fast = copy.deepcopy(plain)
        use_onednn(fast)
        x = torch.randn(images, channels, height, width).contiguous(memory_format=torch.channels_last)
        for is_training in (False, True):
            x.requires_grad_(is_training)
            runs = [[seconds(conv, x, is_training=is_training) for conv in (plain, fast)] for _ in range(args.runs)]
            least = [1000 * min(times) for times in zip(*runs, strict=True)]
            what = "with gradients" if is_training else "prediction"
            shape = f"{name}, {channels} to {outputs}, {height} × {width}"
            print(f"| {shape} | {what} | {' | '.join(f'{x:.1f} ms' for x in least)} |", flush=True)
            results.append({"input": shape, "what": what, "pytorch_ms": least[0], "onednn_ms": least[1]})
    if args.write:
        write_results("pointwise", results, runs=args.runs)


if __name__ == "__main__":
    with reported_errors():
        main()
