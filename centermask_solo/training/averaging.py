"""An exponential moving average of a model's weights, kept while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn

from ..checkpoint.files import AVERAGE_KEY, AVERAGE_WEIGHTS
from ..utils.errors import WeightsError

WARM_UP = 10  # updates; the average's memory grows with their number until it has reached the decay


class WeightAverage:
    """The average of a model's parameters and buffers: ``decay`` times itself plus the rest of the model, each update.

    The running statistics of batch norms are averaged as well; entries that are not floating-point numbers are copied.
    It starts as the model itself. With a warm-up, update t has min(``decay``, (1 + t) / (10 + t)), without which the
    initial weights would have a share of ``decay`` ** t in a short training.
    """

    def __init__(self, model: nn.Module, decay: float, warm_up: bool = True) -> None:
        """
        Args:
            model: Model that is trained, on its device.
            decay: Share of the average in the next one, below 1.
            warm_up: Use less in the first updates.
        """
        self.model, self.decay, self.warm_up = model, decay, warm_up
        self.updates = 0
        self.average: dict[str, Tensor] = {}

    def start(self) -> None:
        """Start from the weights that the model has now."""
        self.updates = 0
        self.average = {key: value.detach().clone() for key, value in self.model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights that the model has now."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (WARM_UP + self.updates)) if self.warm_up else self.decay
        for key, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)  # leaves entries that are equal as they are
            else:
                self.average[key].copy_(value)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Give the model the average; afterwards both are what they were before, bit for bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for key, value in self.model.state_dict().items():
            held = value.clone()
            value.copy_(self.average[key])
            self.average[key].copy_(held)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return {AVERAGE_WEIGHTS: self.average, "updates": self.updates}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            WeightsError: It is the average of another model.
        """
        stored, current = state_dict[AVERAGE_WEIGHTS], self.model.state_dict()
        if {key: x.shape for key, x in stored.items()} != {key: x.shape for key, x in current.items()}:
            raise WeightsError("its average of the weights has other parameters than the model; give the same config")
        self.average = {key: stored[key].to(value.device, value.dtype, copy=True) for key, value in current.items()}
        self.updates = state_dict["updates"]


class AverageWeights(HookBase):
    """Updates the average after each step, ahead of the hooks that save or evaluate it."""

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def after_step(self) -> None:
        """Update the average."""
        self.average.update()


__all__ = ["AVERAGE_KEY", "AverageWeights", "WeightAverage"]
