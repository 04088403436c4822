"""What a run is about to do, in ten lines that are logged before it starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from torch import nn

from ..checkpoint.backbones import name_backbone
from ..data.loader import TrainLoader
from ..utils.text import counted, name_some
from .steps import amp_dtype

if TYPE_CHECKING:
    from .trainer import Trainer

NAMED_CLASSES = 4
BODIES = ("backbone.bottom_up.", "backbone.")  # prefixes of the parameters of a backbone's body


def training_summary(trainer: Trainer) -> str:
    """Return data, model, schedule, device and files of a training, a line each.

    Args:
        trainer: Its weights are loaded.
    """
    cfg = trainer.cfg
    weights = cfg.MODEL.WEIGHTS or "none: everything starts from random values"
    if trainer.start_iter:
        weights = f"those of the interrupted training, which continues at iteration {trainer.start_iter}"
    lines = {
        "data": _data(cfg, trainer.data_loader),
        "evaluation": _evaluation(cfg),
        "model": _model(cfg, trainer.checkpointer.model),
        "weights": weights,
        "schedule": _schedule(cfg, trainer.data_loader),
        "optimizer": _optimizer(cfg),
        "device": _device(cfg, training=True),
        **_files(cfg),
    }
    return _aligned(lines)


def evaluation_summary(cfg: CfgNode, model: nn.Module) -> str:
    """Return data, model, device and files of an evaluation, a line each."""
    data = f"{', '.join(cfg.DATASETS.TEST)}{_classes(cfg.DATASETS.TEST)}"
    lines = {"data": data, "model": _model(cfg, model), "device": _device(cfg, training=False), **_files(cfg)}
    return _aligned(lines)


def _aligned(lines: dict[str, str]) -> str:
    return "\n".join(f"{name:<12}{text}" for name, text in lines.items())


def _data(cfg: CfgNode, loader: object) -> str:
    names = ", ".join(cfg.DATASETS.TRAIN)
    if isinstance(loader, TrainLoader):
        names += f": {counted(loader.num_images, 'image')}, {counted(loader.num_objects, 'object')}"
    return names + _classes(cfg.DATASETS.TRAIN)


def _classes(datasets: Sequence[str]) -> str:
    classes = MetadataCatalog.get(datasets[0]).get("thing_classes") or []
    return f", {counted(len(classes), 'class')} ({name_some(classes, NAMED_CLASSES)})" if classes else ""


def _evaluation(cfg: CfgNode) -> str:
    if not cfg.DATASETS.TEST:
        return "none, as DATASETS.TEST is empty"
    period = cfg.TEST.EVAL_PERIOD
    often = f"every {counted(period, 'iteration')} and at the end" if 0 < period < cfg.SOLVER.MAX_ITER else "at the end"
    return f"{', '.join(cfg.DATASETS.TEST)}, {often}"


def _model(cfg: CfgNode, model: nn.Module) -> str:
    names = dict(model.named_parameters())
    prefix = next((x for x in BODIES if any(name.startswith(x) for name in names)), "")
    body = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
    backbone = name_backbone(cfg, body)
    total = sum(p.numel() for p in names.values()) / 1e6
    trained = sum(p.numel() for p in names.values() if p.requires_grad) / 1e6
    return f"{type(model).__name__}, {backbone}, {total:.1f} million parameters, {trained:.1f} of them trained"


def _schedule(cfg: CfgNode, loader: object) -> str:
    iterations, batch, processes = cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    text = f"{counted(iterations, 'iteration')} of {counted(batch, 'image')}"
    if processes > 1:
        text += f", {batch // processes} in each of {processes} processes"
    if cfg.SOLVER.ACCUMULATE > 1:
        text += f", {batch // processes // cfg.SOLVER.ACCUMULATE} at a time"
    if isinstance(loader, TrainLoader):
        text += f": {counted(f'{iterations * batch / loader.num_images:.3g}', 'epoch')}"
    return text


def _optimizer(cfg: CfgNode) -> str:
    solver = cfg.SOLVER
    text = (
        f"{solver.OPTIMIZER}, learning rate {solver.BASE_LR:.4g} after a warm-up of "
        f"{counted(solver.WARMUP_ITERS, 'iteration')}"
    )
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps = ", ".join(map(str, solver.STEPS))
        text += f", times {solver.GAMMA:.4g} at iteration {steps}" if steps else ""
    else:
        text += f", {solver.LR_SCHEDULER_NAME}"
    return f"{text}; average of the weights" if cfg.MODEL.EMA.ENABLED else text


def _device(cfg: CfgNode, training: bool) -> str:
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type == "cuda":
        name = f"{cfg.MODEL.DEVICE} ({torch.cuda.get_device_name(device)}), "
    else:
        threads = torch.get_num_threads()
        name = f"{device.type}, {threads} thread{'' if threads == 1 else 's'}, "
    if not training:
        return name + cfg.TEST.DTYPE
    dtype = amp_dtype(cfg)
    return name + (f"mixed precision with {str(dtype).removeprefix('torch.')}" if dtype else "float32")


def _files(cfg: CfgNode) -> dict[str, str]:
    folder = cfg.OUTPUT_DIR
    return {"output": folder, "log": f"{os.path.join(folder, 'log.txt')}, with all options (on the screen: --verbose)"}
