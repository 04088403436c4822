"""A batch that is computed in parts, one after another, with the losses and gradients of the whole batch.

The losses are sums over cells, anchors, locations or regions divided by how many of them the batch has, and images are
padded to the largest one of the batch. A part alone would be divided by its own number and padded to its own size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch.nn.functional as F
from detectron2.structures import ImageList
from torch import Tensor, nn

from .batches import padded_size

Number = TypeVar("Number", int, Tensor)


class PartsOfBatch:
    """The parts of a batch, of equally many images each, and what each part's losses must know of the others.

    The model runs on each part twice: first without gradient inside :meth:`counting`, then inside :meth:`dividing`.
    There, the mean of a loss over the parts is the loss of the whole batch.
    """

    _running: PartsOfBatch | None = None  # what the model is run on now, if it is a part

    def __init__(self, batched_inputs: Sequence[dict[str, Any]], number: int, model: nn.Module) -> None:
        """
        Args:
            batched_inputs: Inputs of the model in training.
            number: Number of parts, a divisor of the number of inputs.
            model: The model that they are inputs of.
        """
        size = len(batched_inputs) // number
        self.parts = [list(batched_inputs[i : i + size]) for i in range(0, len(batched_inputs), size)]
        shapes = [x["image"].shape for x in batched_inputs]
        largest = (shapes[0][0], max(x[1] for x in shapes), max(x[2] for x in shapes))
        self._padded_size = padded_size(largest, model)[-2:]
        self._totals: dict[str, Any] = {}
        self._counting = False

    @property
    def counted(self) -> bool:
        """Whether the model's losses have counted what they are divided by."""
        return bool(self._totals)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count, inside the context, what the losses of all parts are divided by."""
        self._totals, self._counting = {}, True
        with self._run():
            yield
        self._counting = False

    @contextmanager
    def dividing(self) -> Iterator[None]:
        """Let losses be divided, inside the context, as those of the whole batch would be."""
        with self._run():
            yield

    @contextmanager
    def _run(self) -> Iterator[None]:
        PartsOfBatch._running = self
        try:
            yield
        finally:
            PartsOfBatch._running = None

    def _total(self, name: str, count: Any) -> Any:
        if self._counting:
            self._totals[name] = self._totals.get(name, 0) + count
            return count
        return self._totals.get(name, count * len(self.parts))


def total(name: str, count: Number) -> Number:
    """Return how many the batch has of what a loss is a sum over, all its parts together.

    Args:
        name: What is counted, and for which loss: each name once in the losses of a part.
        count: How many this part has: an int, or a tensor of counts.
    """
    running = PartsOfBatch._running
    return count if running is None else running._total(name, count)


def per_part(divisor: Any) -> Any:
    """Return what to divide the sum over a part by, so that the mean of the parts is the sum over ``divisor``."""
    running = PartsOfBatch._running
    return divisor if running is None else divisor / len(running.parts)


def pad_as_whole(images: ImageList, value: float = 0.0) -> ImageList:
    """Return the images (or label images, with their own padding ``value``) of a part, padded as the whole batch is."""
    running = PartsOfBatch._running
    if running is None:
        return images
    height, width = running._padded_size
    padding = (0, max(0, width - images.tensor.shape[-1]), 0, max(0, height - images.tensor.shape[-2]))
    return ImageList(F.pad(images.tensor, padding, value=value), images.image_sizes) if any(padding) else images
