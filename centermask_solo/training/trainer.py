"""Detectron2's trainer, for these models and also on the CPU."""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_test_loader
from detectron2.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, create_ddp_model
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import DatasetEvaluator, verify_results
from detectron2.utils import comm
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ..checkpoint import Checkpointer
from ..data.loader import TrainLoader, build_train_loader, mix_seeds
from ..data.mapper import InstanceMapper
from ..evaluation import build_evaluator, format_results, write_results
from ..modeling.centermask import CenterMaskWithTTA
from ..utils.errors import WithoutUserTracebacks
from .optimizer import build_optimizer

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Trains the model of a config as Detectron2's DefaultTrainer does.

    Differs from it: training that was interrupted goes on with exactly the losses of an uninterrupted one; several
    processes work on the CPU too; mixed precision works there too (bfloat16); a loss that is not finite names the
    images; checkpoints hold the class names.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """
        Args:
            cfg: of ``setup_cfg``; ``OUTPUT_DIR`` exists.
        """
        TrainerBase.__init__(self)  # DefaultTrainer's own would build the parts that differ
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        data_loader = self.build_train_loader(cfg)  # before the model, because it is what users' errors are found in
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        on_cpu = torch.device(cfg.MODEL.DEVICE).type == "cpu"
        model = create_ddp_model(model, broadcast_buffers=False, device_ids=None if on_cpu else [comm.get_local_rank()])
        half_step = _BFloat16Step if on_cpu else _HalfStep
        self._trainer = (half_step if cfg.SOLVER.AMP.ENABLED else _Step)(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(
            model,
            cfg.OUTPUT_DIR,
            thing_classes=MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes"),
            config=cfg.dump(),
            trainer=weakref.proxy(self),
        )
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint in ``OUTPUT_DIR`` if ``resume``, otherwise start from ``MODEL.WEIGHTS``."""
        super().resume_or_load(resume)
        if isinstance(self.data_loader, TrainLoader):
            self.data_loader.start_iter = self.start_iter

    def train(self) -> Any:
        """Train up to ``SOLVER.MAX_ITER``; the results of the last evaluation, if they are checked."""
        loop_logger = logging.getLogger(TrainerBase.__module__)
        quiet = WithoutUserTracebacks()
        loop_logger.addFilter(quiet)
        try:
            return super().train()
        finally:
            loop_logger.removeFilter(quiet)

    def run_step(self) -> None:
        """One iteration; what is random in the model depends on the seed, the iteration and the process alone."""
        if isinstance(self.data_loader, TrainLoader):
            torch.manual_seed(mix_seeds(self.data_loader.seed, self.iter, comm.get_rank()))
        super().run_step()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs beside the parameters."""
        state = super().state_dict()
        if isinstance(self.data_loader, TrainLoader):
            state["data_seed"] = self.data_loader.seed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The counterpart of :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        if isinstance(self.data_loader, TrainLoader) and "data_seed" in state_dict:
            self.data_loader.seed = state_dict["data_seed"]

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model on its device; its convolutions in the memory format that ``MODEL.CHANNELS_LAST`` states."""
        model = super().build_model(cfg)
        return model.to(memory_format=torch.channels_last) if cfg.MODEL.CHANNELS_LAST else model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """See :func:`centermask_solo.training.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> TrainLoader:
        """Endless batches of ``DATASETS.TRAIN``."""
        return build_train_loader(cfg, InstanceMapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader:
        """Detectron2's loader, one image at a time; a faulty file is named."""
        return build_detection_test_loader(cfg, dataset_name, mapper=InstanceMapper(cfg, is_train=False))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """See :func:`centermask_solo.evaluation.build_evaluator`."""
        return build_evaluator(cfg, dataset_name)

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None
    ) -> dict[str, Any]:
        """The metrics of ``DATASETS.TEST``; they are also logged as a table and written to ``OUTPUT_DIR``."""
        results = super().test(cfg, model, evaluators)
        if comm.is_main_process() and results:
            path = write_results(results, cfg.OUTPUT_DIR)
            logger.info(f"Evaluation results, also in {path}:\n{format_results(results)}")
        return results


def evaluate(cfg: CfgNode, *, resume: bool = False, trainer: type[Trainer] = Trainer) -> dict[str, Any]:
    """The metrics of ``DATASETS.TEST`` for ``MODEL.WEIGHTS``, or with ``resume`` for the last checkpoint.

    ``TEST.AUG.ENABLED`` evaluates with test-time augmentation, of the sizes and flips of ``TEST.AUG``.

    Raises:
        ValueError: there are no weights, or they leave a part of the model unfilled.
    """
    model = trainer.build_model(cfg)
    checkpointer = Checkpointer(model, save_dir=cfg.OUTPUT_DIR, complete=True)
    if not cfg.MODEL.WEIGHTS and not (resume and checkpointer.has_checkpoint()):
        raise ValueError("there is nothing to evaluate: give MODEL.WEIGHTS, or --resume and a training's OUTPUT_DIR")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    results = trainer.test(cfg, CenterMaskWithTTA(cfg, model) if cfg.TEST.AUG.ENABLED else model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


class _NamesImages:
    """What the steps of :class:`Trainer` have in common: a loss that is not finite names the images it came from."""

    model: nn.Module
    data_loader: Any
    iter: int
    _data_loader_iter_obj: Iterator[list[dict[str, Any]]] | None

    @property
    def _data_loader_iter(self) -> Iterator[list[dict[str, Any]]]:
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = self._remembered(iter(self.data_loader))
        return self._data_loader_iter_obj

    def _remembered(self, batches: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        for batch in batches:
            self._file_names = [str(x.get("file_name", "an image without file name")) for x in batch]
            yield batch

    def _write_metrics(self, loss_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> None:
        losses = {name: loss.item() for name, loss in loss_dict.items()}
        if not all(map(math.isfinite, losses.values())):
            raise FloatingPointError(
                f"the loss became infinite or NaN at iteration {self.iter}: {losses}, images {self._file_names}; "
                "look at these images, lower SOLVER.BASE_LR, or set SOLVER.CLIP_GRADIENTS.ENABLED True"
            )
        super()._write_metrics(loss_dict, *args, **kwargs)  # type: ignore[misc]


class _Step(_NamesImages, SimpleTrainer):
    """A step in float32."""


class _HalfStep(_NamesImages, AMPTrainer):
    """A step in float16 with a scaled loss, on a GPU."""


class _BFloat16Step(_Step):
    """A step in bfloat16 on the CPU; its range is that of float32, so that the loss needs no scaling."""

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
