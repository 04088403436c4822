"""Training steps in float32, float16 and bfloat16, which stop at a loss that is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import Tensor, nn

from ..utils.errors import NonFiniteLossError


def step_type(device: str, amp: bool) -> type[SimpleTrainer]:
    """Return the kind of step for a device; mixed precision if ``amp``."""
    if not amp:
        return _Step
    return _BFloat16Step if torch.device(device).type == "cpu" else _HalfStep


class _StopsAtNonFiniteLoss:
    """Raises NonFiniteLossError with the names of the images."""

    model: nn.Module
    data_loader: Any
    iter: int
    _data_loader_iter_obj: Iterator[list[dict[str, Any]]] | None

    @property
    def _data_loader_iter(self) -> Iterator[list[dict[str, Any]]]:
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = self._store_file_names(iter(self.data_loader))
        return self._data_loader_iter_obj

    def _store_file_names(self, batches: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        """Yield the batches, and store the file names of the current one."""
        for batch in batches:
            self._file_names = [str(x.get("file_name", "an image without file name")) for x in batch]
            yield batch

    def _write_metrics(self, loss_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> None:
        losses = {name: loss.item() for name, loss in loss_dict.items()}
        if not all(map(math.isfinite, losses.values())):
            raise NonFiniteLossError(
                f"the loss became infinite or NaN at iteration {self.iter}: {losses}, images {self._file_names}; "
                "inspect these images, lower SOLVER.BASE_LR, or set SOLVER.CLIP_GRADIENTS.ENABLED True"
            )
        super()._write_metrics(loss_dict, *args, **kwargs)  # type: ignore[misc]


class _Step(_StopsAtNonFiniteLoss, SimpleTrainer):
    """A step in float32."""


class _HalfStep(_StopsAtNonFiniteLoss, AMPTrainer):
    """A step in float16 with loss scaling, on a GPU."""


class _BFloat16Step(_Step):
    """A step in bfloat16 on the CPU. Its range is that of float32, so the loss needs no scaling."""

    def run_step(self) -> None:
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast("cpu", torch.bfloat16):
            loss_dict = self.model(data)
        self.optimizer.zero_grad()
        torch.stack(list(loss_dict.values())).sum().backward()
        self.after_backward()
        self._write_metrics(loss_dict, data_time)
        self.optimizer.step()
