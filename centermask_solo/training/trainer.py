"""Detectron2's trainer, for the models of this package and also on the CPU."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer, HookBase, create_ddp_model
from detectron2.engine import hooks as detectron2_hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ..checkpoint import Checkpointer
from ..checkpoint.checkpointer import ANOTHER_FOLDER
from ..data.loader import TrainLoader, build_test_loader, build_train_loader, mix_seeds
from ..data.mapper import InstanceMapper
from ..evaluation import build_evaluator, format_results, write_results
from ..evaluation.by_name import evaluators_by_name, set_class_names
from ..modeling.batch_norms import freeze, synchronize_batch_norms
from ..modeling.channels_last import to_channels_last, use_onednn
from ..modeling.gradient_checkpointing import checkpoint_backbone
from ..modeling.parts import unknown_parts_explained
from ..utils.errors import UserErrorFilter, WeightsError
from .averaging import AVERAGE_KEY, AverageWeights, WeightAverage
from .bad_batch import evidence_kept
from .best import (
    FINAL,
    VALIDATION,
    BestWeights,
    EarlyStopping,
    EnoughTraining,
    check_best_loss,
    check_best_metric,
    check_early_stopping,
    save_missing_final,
    store_results,
)
from .first_iterations import FirstIterations
from .fitting import FitHook
from .logs import prints_in_log
from .optimizer import build_optimizer
from .pictures import put_pictures
from .resuming import restore_training, training_state, with_own_options
from .schedule import epochs_to_iterations, scale_to_processes, without_useless_steps
from .steps import TrainingStep, amp_dtype
from .validation import ValidationLoss
from .writers import EvaluationsWriter, build_trackers

logger = logging.getLogger(__name__)


def training_data_of(model: nn.Module) -> dict[str, Any]:
    """Return what the training data of a model must look like, as arguments of :class:`InstanceMapper`.

    A model may state a fixed ``input_size`` and, in ``gt_mask_sizes``, the reduced masks that its losses use.
    """
    return {
        "input_size": getattr(model, "input_size", None),
        "mask_sizes": getattr(model, "gt_mask_sizes", {}),
    }


class Trainer(DefaultTrainer):
    """Trains the model of a config like Detectron2's DefaultTrainer.

    Differs:

    * Resumed training has exactly the losses of uninterrupted training.
    * Several processes and mixed precision (bfloat16) also work on the CPU.
    * A loss, or a parameter to be saved, that is not finite is an error that names a file with the batch.
    * Checkpoints store the class names and the config.
    * :meth:`build_train_loader` is a method, because the model decides what its training data looks like.
    """

    def __init__(self, cfg: CfgNode, hooks: Sequence[HookBase] = ()) -> None:
        """
        Args:
            cfg: Config from ``setup_cfg``; its ``OUTPUT_DIR`` exists.
            hooks: Hooks that run before those of Detectron2.
        """
        TrainerBase.__init__(self)  # DefaultTrainer's own would build the parts that differ
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.prepare_training(cfg, self.build_model(cfg))
        self._training_data = training_data_of(model)
        data_loader = self.build_train_loader(cfg)
        thing_classes = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes")
        set_class_names(model, thing_classes)
        if isinstance(data_loader, TrainLoader):
            cfg = epochs_to_iterations(cfg, data_loader.num_images)
        cfg = without_useless_steps(cfg)
        self.validation = ValidationLoss(cfg, self._training_data, thing_classes) if cfg.TEST.LOSS else None
        optimizer = self.build_optimizer(cfg, model)
        on_cpu = torch.device(cfg.MODEL.DEVICE).type == "cpu"
        model = create_ddp_model(model, broadcast_buffers=False, device_ids=None if on_cpu else [comm.get_local_rank()])
        self._trainer = TrainingStep(model, data_loader, optimizer, dtype=amp_dtype(cfg), parts=cfg.SOLVER.ACCUMULATE)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(
            model,
            cfg.OUTPUT_DIR,
            thing_classes=thing_classes,
            config=cfg.dump(),
            trainer=weakref.proxy(self),
        )
        self.average = None
        if cfg.MODEL.EMA.ENABLED:
            self.average = WeightAverage(self.checkpointer.model, cfg.MODEL.EMA.DECAY, cfg.MODEL.EMA.WARM_UP)
            self.checkpointer.add_checkpointable(AVERAGE_KEY, self.average)
        check_early_stopping(cfg)
        own = getattr(Trainer.build_evaluator, "__func__", None)
        if getattr(self.build_evaluator, "__func__", None) is own:  # others may have any metrics
            check_best_metric(cfg)
        self.best = BestWeights(self.checkpointer, cfg.TEST.KEEP_BEST) if cfg.TEST.KEEP_BEST else None
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        fit = [FitHook(self.checkpointer.model, self._training_data)] if hasattr(self.checkpointer.model, "fit") else []
        self.register_hooks([*fit, *hooks, *self.build_hooks()])

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint in ``OUTPUT_DIR`` if ``resume``, otherwise start from ``MODEL.WEIGHTS``."""
        super().resume_or_load(resume)
        if isinstance(self.data_loader, TrainLoader):
            self.data_loader.start_iter = self.start_iter
        if self.average is not None and not self.average.average:
            if self.start_iter:
                logger.warning("The checkpoint holds no average of the weights (MODEL.EMA): it starts with them.")
            self.average.start()
        if self.best is not None and resume:
            self.best.resume(self.start_iter)

    def train(self) -> dict[str, Any]:
        """Train until ``SOLVER.MAX_ITER``; return the results of the last evaluation, empty if there was none."""
        loop_logger = logging.getLogger(TrainerBase.__module__)
        loop_logger.addFilter(user_errors := UserErrorFilter())
        save_missing_final(self)
        with evidence_kept(self):
            try:
                super().train()
            except EnoughTraining:
                if comm.is_main_process():
                    self.checkpointer.save(FINAL, iteration=self.iter)
            finally:
                loop_logger.removeFilter(user_errors)
        results = getattr(self, "_last_eval_results", None) or {}
        store_results(self.checkpointer, results)
        return results

    def build_hooks(self) -> list[HookBase]:
        """Return Detectron2's hooks; those that evaluate do it with the average of the weights as well."""
        made = super().build_hooks()
        place = next(i for i, hook in enumerate(made) if isinstance(hook, detectron2_hooks.EvalHook))
        made[place] = evaluation = detectron2_hooks.EvalHook(self.cfg.TEST.EVAL_PERIOD, self._evaluate)
        if comm.is_main_process():
            made[-1] = EvaluationsWriter(made[-1]._writers)
        if self.best is not None:
            made.append(EarlyStopping(self.best, evaluation._do_eval))
        if self.cfg.SOLVER.REPORT_ITERATIONS:
            made.insert(0, FirstIterations(self.cfg.SOLVER.REPORT_ITERATIONS))
        return made if self.average is None else [AverageWeights(self.average), *made]

    def build_writers(self) -> list[EventWriter]:
        """Return Detectron2's writers, and those of ``SOLVER.TRACKERS``."""
        return [*super().build_writers(), *build_trackers(self.cfg)]

    def _evaluate(self) -> dict[str, Any]:
        """Evaluate, and keep the weights if they are the best; the results of their average are under "ema"."""
        results, done = self._results(self.cfg), min(self.iter + 1, self.max_iter)  # after the end, iter is max_iter
        if self.best is not None:
            self.best.offer(results, done, "raw")
        if self.average is not None and self.cfg.DATASETS.TEST:
            cfg = self.cfg.clone()
            cfg.defrost()
            cfg.OUTPUT_DIR = os.path.join(self.cfg.OUTPUT_DIR, AVERAGE_KEY)
            os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
            logger.info("Evaluating the average of the weights")
            with self.average.in_model():
                averaged = self._results(cfg)
                if self.best is not None:
                    self.best.offer(averaged, done, "averaged")
            results = {**results, AVERAGE_KEY: averaged} if averaged else results
        self._last_eval_results = results
        return results

    def _results(self, cfg: CfgNode) -> dict[str, Any]:
        """Return the metrics of the weights that the model has now, with their losses if ``TEST.LOSS``."""
        results = self.test(cfg, self.model)
        if cfg.TEST.PICTURES and cfg.DATASETS.TEST and comm.is_main_process():
            put_pictures(cfg, self.checkpointer.model, "pictures" if cfg is self.cfg else f"{AVERAGE_KEY}/pictures")
        if self.validation is None:
            return results
        losses = self.validation.compute(self.checkpointer.model)
        logger.info("Validation loss: " + ", ".join(f"{name} {value:.4g}" for name, value in losses.items()))
        return {**results, VALIDATION: losses} if comm.is_main_process() else {}

    def run_step(self) -> None:
        """Run one iteration; randomness in the model depends only on the seed, the iteration and the process."""
        if isinstance(self.data_loader, TrainLoader):
            torch.manual_seed(mix_seeds(self.data_loader.seed, self.iter, comm.get_rank()))
        super().run_step()
        if self.iter == self.start_iter:
            check_best_loss(self.cfg.TEST.KEEP_BEST, ["total_loss", *self._trainer.losses])

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs besides the parameters."""
        return {**super().state_dict(), **training_state(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; the options of the optimizer are those of the config.

        Raises:
            WeightsError: It is the state of a training with another optimizer.
        """
        try:
            state_dict = with_own_options(self, state_dict)
        except WeightsError as error:
            path = self.checkpointer.get_checkpoint_file()
            raise WeightsError(f"training cannot be resumed from {path}: {error}; {ANOTHER_FOLDER}") from error
        super().load_state_dict(state_dict)
        restore_training(self, state_dict)

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """See :func:`centermask_solo.training.schedule.scale_to_processes`."""
        return scale_to_processes(cfg, num_workers)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Return the model on its device, in the memory format that ``MODEL.CHANNELS_LAST`` states."""
        with unknown_parts_explained():
            model = super().build_model(cfg)
        return to_channels_last(model) if cfg.MODEL.CHANNELS_LAST else model  # Detectron2's own, too

    @staticmethod
    def prepare_training(cfg: CfgNode, model: nn.Module) -> nn.Module:
        """Return the model with what only its training changes: frozen parts, batch norms, and how it computes."""
        if cfg.MODEL.SYNC_BN and comm.get_world_size() > 1:
            model = synchronize_batch_norms(model)
        if cfg.MODEL.FREEZE:  # afterwards, because norms that are replaced on a GPU would lose that they are frozen
            freeze(model, cfg.MODEL.FREEZE)
        if cfg.MODEL.CHANNELS_LAST and torch.device(cfg.MODEL.DEVICE).type == "cpu":
            use_onednn(model)
        if cfg.MODEL.BACKBONE.GRADIENT_CHECKPOINTING:
            checkpoint_backbone(model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """See :func:`centermask_solo.training.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    def build_train_loader(self, cfg: CfgNode) -> TrainLoader:
        """Return endless batches of ``DATASETS.TRAIN`` as the model of this trainer needs them."""
        return build_train_loader(cfg, InstanceMapper(cfg, is_train=True, **self._training_data))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader:
        """Return Detectron2's loader, one image at a time; a faulty file is named.

        Raises:
            ConfigError: The dataset is not registered.
            DataError: Its annotation file has a fault.
        """
        return build_test_loader(cfg, dataset_name, InstanceMapper(cfg, is_train=False))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """See :func:`centermask_solo.evaluation.build_evaluator`."""
        return build_evaluator(cfg, dataset_name)

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None
    ) -> dict[str, Any]:
        """Return the metrics of ``DATASETS.TEST``; log them as a table and write them to ``OUTPUT_DIR``.

        Classes are matched by name where the model states its names, as trained and evaluated models do.

        Raises:
            DataError: A dataset has other classes than the model.
        """
        evaluators = evaluators_by_name(cfg.DATASETS.TEST, model, evaluators, partial(cls.build_evaluator, cfg))
        with prints_in_log(logging.getLogger("detectron2.evaluation")):
            results = super().test(cfg, model, evaluators)
        if comm.is_main_process() and results:
            path = write_results(results, cfg.OUTPUT_DIR)
            logger.info(f"Evaluation results, also in {path}:\n{format_results(results)}")
        return results
