"""A step of the training: in any precision, with the whole batch or in parts; it stops at a loss that is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..modeling.batch_norms import running_statistics_kept
from ..modeling.parts_of_batch import PartsOfBatch
from ..utils.errors import ConfigError, NonFiniteLossError

Batch = list[dict[str, Any]]


def amp_dtype(cfg: CfgNode) -> torch.dtype | None:
    """Return the type of mixed precision that ``SOLVER.AMP`` asks for; None for float32.

    Raises:
        ConfigError: It is float16 on a CPU.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    name, on_cpu = cfg.SOLVER.AMP.DTYPE, torch.device(cfg.MODEL.DEVICE).type == "cpu"
    if name == "float16" and on_cpu:
        raise ConfigError("SOLVER.AMP.DTYPE float16 needs a GPU: set SOLVER.AMP.DTYPE bfloat16")
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and on_cpu) else torch.float16


class TrainingStep(SimpleTrainer):
    """Detectron2's training step, with mixed precision and gradient accumulation.

    float16 scales the loss, so that small gradients do not vanish; the range of bfloat16 is that of float32.
    """

    _data_loader_iter_obj: Iterator[Batch] | None

    def __init__(
        self, model: nn.Module, data_loader: Any, optimizer: Any, *, dtype: torch.dtype | None = None, parts: int = 1
    ) -> None:
        """
        Args:
            model: Model in one process or several.
            data_loader: Endless iterable of batches.
            optimizer: Optimizer of the model's parameters.
            dtype: Type of mixed precision, or None.
            parts: Number of parts that a batch is computed in, one after another.
        """
        super().__init__(model, data_loader, optimizer)
        self.dtype, self.parts = dtype, parts
        self.own_model = model.module if isinstance(model, DistributedDataParallel) else model
        self.device_type = next(model.parameters()).device.type
        self.grad_scaler = torch.amp.GradScaler("cuda", enabled=dtype == torch.float16)
        self.batch: Batch = []  # of the last iteration, as are the losses
        self.losses: dict[str, float] = {}
        self.bad_processes: list[int] = []  # whose losses are not finite
        self._counts = True  # whether the losses of the model count what they are divided by

    def run_step(self) -> None:
        """Run one iteration."""
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        losses = self._backward(batch) if self.parts == 1 else self._backward_in_parts(batch)
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _backward(self, batch: Batch, scale: float = 1.0, zero: bool = True) -> dict[str, Tensor]:
        """Add the gradients of a batch, times ``scale``, to those that are there unless ``zero``; return its losses."""
        with self._autocast():
            losses = self.model(batch)
            losses = {"total_loss": losses} if isinstance(losses, Tensor) else losses
            weighted = torch.stack(list(losses.values())).sum() * scale
        if zero:
            self.optimizer.zero_grad()
        self.grad_scaler.scale(weighted).backward()
        return losses

    def _backward_in_parts(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the gradients of a batch from its parts; return its losses."""
        whole = PartsOfBatch(batch, self.parts, self.own_model)
        means: dict[str, Tensor] = {}
        if self._counts:
            self._count(whole)
        with whole.dividing():
            for i, part in enumerate(whole.parts):
                is_last = i == len(whole.parts) - 1
                with nullcontext() if is_last else self._not_synchronized():
                    losses = self._backward(part, 1 / len(whole.parts), zero=i == 0)
                for name, loss in losses.items():
                    means[name] = means.get(name, torch.zeros_like(loss)) + loss.detach() / len(whole.parts)
        return means

    @torch.no_grad()
    def _count(self, whole: PartsOfBatch) -> None:
        """Count what the losses of a batch are divided by; random numbers and running statistics stay as they are."""
        devices = [torch.cuda.current_device()] if self.device_type == "cuda" else []
        with (
            torch.random.fork_rng(devices),
            running_statistics_kept(self.own_model),
            EventStorage(self.iter),
            whole.counting(),
            self._autocast(),
        ):
            for part in whole.parts:
                self.own_model(part)
        self._counts = whole.counted

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device_type, self.dtype) if self.dtype else nullcontext()

    def _not_synchronized(self) -> AbstractContextManager:
        """Return a context in which several processes do not add their gradients."""
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    @property
    def _data_loader_iter(self) -> Iterator[Batch]:
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = self._keep_current(iter(self.data_loader))
        return self._data_loader_iter_obj

    def _keep_current(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, and keep the current one."""
        for self.batch in batches:
            yield self.batch

    def _write_metrics(self, loss_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> None:
        self.losses = {name: loss.item() for name, loss in loss_dict.items()}
        self._stop_unless_finite()
        super()._write_metrics(loss_dict, *args, **kwargs)

    def _stop_unless_finite(self) -> None:
        """Raise NonFiniteLossError in all processes if the losses of any are not finite: others would wait for it."""
        bad = not all(map(math.isfinite, self.losses.values()))
        if not self._in_any_process(bad):
            return
        names = [str(x.get("file_name", "an image without file name")) for x in self.batch]
        texts = comm.all_gather(f"{self.losses}, images {names}" if bad else "")
        self.bad_processes = [rank for rank, text in enumerate(texts) if text]
        found = [texts[rank] + (f" in process {rank}" if len(texts) > 1 else "") for rank in self.bad_processes]
        raise NonFiniteLossError(
            f"the loss became infinite or NaN at iteration {self.iter}: {' and '.join(found)}; "
            "inspect these images, lower SOLVER.BASE_LR, or set SOLVER.CLIP_GRADIENTS.ENABLED True"
        )

    def _in_any_process(self, condition: bool) -> bool:
        """Return whether a condition holds in this process or another."""
        if comm.get_world_size() == 1:
            return condition
        number = torch.tensor(int(condition), device=next(self.own_model.parameters()).device)
        torch.distributed.all_reduce(number)
        return bool(number)

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs."""
        state = super().state_dict()
        return {**state, "grad_scaler": self.grad_scaler.state_dict()} if self.grad_scaler.is_enabled() else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        super().load_state_dict(state_dict)
        if self.grad_scaler.is_enabled() and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
