"""Count what PyTorch computes, which bounds time on any machine."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class CountedFloats(TorchDispatchMode):
    """A context that counts the numbers in all float and integer tensors that operators return, views included.

    Attributes:
        numbers: Sum over all results with more than one byte per element.
    """

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, torch.Tensor) and x.element_size() > 1:
                self.numbers += x.numel()
        return result
