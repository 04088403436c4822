"""CPU milliseconds of 1 x 1 convolutions in the channels-last layout with one thread: PyTorch's choice, and oneDNN.

python benchmarks/pointwise.py

The least of five interleaved runs; see ``use_onednn`` of ``centermask_solo/modeling/channels_last.py``.
"""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn

from centermask_solo.modeling.channels_last import to_channels_last, use_onednn
from centermask_solo.utils.errors import reported_errors

CASES = {  # images, channels in and out, height, width
    "ResNet-50, res2": (1, 256, 64, 200, 304),
    "ResNet-50, res3": (1, 512, 128, 100, 152),
    "ResNet-50, res5": (1, 2048, 512, 25, 38),
    "VoVNet-39, stage 2": (1, 1056, 256, 100, 152),
    "FPN, level 2": (1, 256, 256, 200, 304),
}
RUNS = 5


def seconds(conv: nn.Module, x: Tensor, *, is_training: bool) -> float:
    """Return the CPU seconds of a convolution, in training with its gradients."""
    start = time.process_time()
    with torch.set_grad_enabled(is_training):
        y = conv(x)
    if is_training:
        y.sum().backward()
    return time.process_time() - start


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    print("| input | | PyTorch's choice | oneDNN |\n| --- | --- | --- | --- |")
    for name, (images, channels, outputs, height, width) in CASES.items():
        plain = to_channels_last(nn.Conv2d(channels, outputs, 1))
        fast = copy.deepcopy(plain)
        use_onednn(fast)
        x = torch.randn(images, channels, height, width).contiguous(memory_format=torch.channels_last)
        for is_training in (False, True):
            x.requires_grad_(is_training)
            runs = [[seconds(conv, x, is_training=is_training) for conv in (plain, fast)] for _ in range(RUNS)]
            least = (f"{1000 * min(times):.1f} ms" for times in zip(*runs, strict=True))
            what = "with gradients" if is_training else "prediction"
            print(f"| {name}, {channels} to {outputs}, {height} × {width} | {what} | {' | '.join(least)} |", flush=True)


if __name__ == "__main__":
    with reported_errors():
        main()
