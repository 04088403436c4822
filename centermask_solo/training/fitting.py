"""What some models do once after the last iteration, such as fitting SVMs to their features."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..data.loader import build_fitting_loader
from ..data.mapper import InstanceMapper
from ..utils.errors import ConfigError

FOLDER = "features"  # below OUTPUT_DIR


class FittedModel(Protocol):
    """A model with a step of its own after the last iteration."""

    max_fit_images: int  # most training images that it needs; 0 for all

    def check_fit(self) -> None:
        """Raise UserError if :meth:`fit` could not run."""

    def fit(self, batches: Iterable[list[dict[str, Any]]], folder: str) -> None:
        """Change parameters and buffers in place.

        Args:
            batches: Training images without augmentation, with their ground truth; the same in every iteration.
            folder: Where it may keep what it can compute again.
        """

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers."""


class FitHook(HookBase):
    """Lets a model fit itself after the last iteration, before it is saved and evaluated.

    The first process fits while the others wait for the result.
    """

    def __init__(self, model: FittedModel, training_data: Mapping[str, Any]) -> None:
        """
        Args:
            model: The model, not wrapped for several processes.
            training_data: What its training data looks like, as arguments of :class:`InstanceMapper`.
        """
        self._model, self._training_data = model, training_data

    def before_train(self) -> None:
        cfg = self.trainer.cfg
        if cfg.MODEL.EMA.ENABLED:
            raise ConfigError(
                f"{cfg.MODEL.META_ARCHITECTURE} is fitted after training, but an average of its weights would not be: "
                "set MODEL.EMA.ENABLED False"
            )
        if cfg.TEST.PATIENCE:
            raise ConfigError(
                f"{cfg.MODEL.META_ARCHITECTURE} is fitted after its last iteration, which TEST.PATIENCE may never "
                "reach: set TEST.PATIENCE 0"
            )
        self._model.check_fit()

    def after_step(self) -> None:
        if self.trainer.iter + 1 < self.trainer.max_iter:
            return
        if comm.is_main_process():
            cfg = self.trainer.cfg
            mapper = InstanceMapper.without_augmentation(cfg, **self._training_data)
            batches = build_fitting_loader(cfg, mapper, self._model.max_fit_images)
            self._model.fit(batches, os.path.join(cfg.OUTPUT_DIR, FOLDER))
        if comm.get_world_size() > 1:
            for value in self._model.state_dict().values():
                torch.distributed.broadcast(value, 0)
