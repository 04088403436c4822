"""Compare PyTorch's norms on a CPU, contiguous and channels-last, and those of this package with float64.

python benchmarks/channels_last_norms.py
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from centermask_solo.modeling.channels_last import to_channels_last
from centermask_solo.utils.errors import reported_errors

SHAPE = (8, 64, 138, 138)  # the first feature map of an input of 550 pixels, in YOLACT's usual batch
RUNS = 5


def run(norm: nn.Module, x: Tensor, grad: Tensor) -> tuple[list[Tensor], float]:
    """Return output and gradient of ``x`` and, for batch norm, mean and variance; and the CPU time in seconds."""
    norm = copy.deepcopy(norm).to(x.dtype)
    x = x.requires_grad_()
    start = time.process_time()
    y = norm(x)
    (grad_x,) = torch.autograd.grad(y, x, grad)
    seconds = time.process_time() - start
    return [y.detach(), grad_x, *(b for name, b in norm.named_buffers() if name.startswith("running"))], seconds


def main() -> None:
    """Print the table of ``docs/decisions/channels_last_norms.md``."""
    torch.manual_seed(0)
    noise, grad = torch.randn(SHAPE), torch.randn(SHAPE)
    layouts: dict[str, Callable[[Tensor], Tensor]] = {
        "contiguous": lambda t: t.contiguous(),
        "channels-last": lambda t: t.contiguous(memory_format=torch.channels_last),
    }
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    print("largest difference from float64: output, gradient, mean, variance; CPU time")
    for norm in (nn.BatchNorm2d(SHAPE[1], momentum=1.0), nn.GroupNorm(32, SHAPE[1])):
        ours = to_channels_last(copy.deepcopy(norm))
        for mean in (0.0, 100.0):
            x = noise + mean
            exact, _ = run(norm, x.double(), grad.double())
            for name, module, layout in (
                ("PyTorch, contiguous", norm, layouts["contiguous"]),
                ("PyTorch, channels-last", norm, layouts["channels-last"]),
                ("here, channels-last", ours, layouts["channels-last"]),
            ):
                results = [run(module, layout(x), layout(grad)) for _ in range(RUNS)]
                errors = [f"{(a - b).abs().max().item():.0e}" for a, b in zip(results[0][0], exact, strict=True)]
                milliseconds = 1000 * min(seconds for _, seconds in results)
                print(f"{type(norm).__name__}, mean {mean:3.0f}, {name:22}: {' '.join(errors)}; {milliseconds:.0f} ms")


if __name__ == "__main__":
    with reported_errors():
        main()
