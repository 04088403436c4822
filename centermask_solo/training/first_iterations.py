"""A look at the objects of the first iterations: which levels learn them, and which are lost."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor, nn

from ..modeling.suggestions import InputObjects
from ..modeling.systems import find_system
from ..utils.text import counted

logger = logging.getLogger(__name__)

TOLERATED = 0.01  # share of the objects that may be lost without a warning
MIN_OBJECTS = 20  # fewer say little


class FirstIterations(HookBase):
    """Reports the objects of the first iterations as the model sees them, after augmentation.

    Once: a resumed training had its report when it began.
    """

    def __init__(self, iterations: int) -> None:
        """
        Args:
            iterations: Number of iterations that are looked at, those of the main process.
        """
        self._iterations = iterations
        self._inputs: list[tuple[Tensor, tuple[int, int]]] = []  # boxes and (height, width) of each image
        self._done = 0

    def after_step(self) -> None:
        """Note the batch; report after the last one."""
        if self.trainer.start_iter or self._done >= self._iterations or not comm.is_main_process():
            return
        model = self.trainer.checkpointer.model
        self._inputs += [_boxes_at_input(x, model) for x in self.trainer._trainer.batch if "instances" in x]
        self._done += 1
        if self._done == min(self._iterations, self.trainer.max_iter):
            self._report()
            self._inputs = []

    def _report(self) -> None:
        cfg, system = self.trainer.cfg, find_system(self.trainer.cfg.MODEL.META_ARCHITECTURE)
        counts = torch.tensor([len(boxes) for boxes, _ in self._inputs])
        if system is None or system.suggest is None or counts.sum() < MIN_OBJECTS:
            return
        sizes = torch.tensor([(width, height) for _, (height, width) in self._inputs]).double()
        objects = InputObjects(
            torch.cat([boxes for boxes, _ in self._inputs]).double(),
            torch.arange(len(counts)).repeat_interleave(counts),
            sizes.repeat_interleave(counts, dim=0),
        )
        found = system.suggest(cfg, objects)
        levels = next((x.levels for x in found if x.levels), ())
        shares = f"; on each level: {', '.join(f'{x:.0%}' for x in levels)}" if levels else ""
        logger.info(f"Objects of the first {counted(self._done, 'iteration')}: {len(objects.boxes)}{shares}")
        for suggestion in found:
            if suggestion.lost > TOLERATED:
                logger.warning(f"first {counted(self._done, 'iteration')}: {suggestion}")


def _boxes_at_input(x: dict[str, Any], model: nn.Module) -> tuple[Tensor, tuple[int, int]]:
    """Return the boxes of an image's objects without crowds, (M, 4), at the model's input, and its (height, width)."""
    instances = x["instances"]
    boxes = instances.gt_boxes.tensor.cpu()
    if instances.has("gt_is_crowd"):
        boxes = boxes[~instances.gt_is_crowd.cpu()]
    size = getattr(model, "input_size", None)
    height, width = instances.image_size
    if size is None:
        return boxes, (height, width)
    return boxes * boxes.new_tensor([size[1] / width, size[0] / height]).repeat(2), size
