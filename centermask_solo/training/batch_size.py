"""The largest batch that fits in memory, with the learning rate and schedule that belong to it."""

from __future__ import annotations

import gc
import itertools
import logging
import math
from contextlib import suppress
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from ..data.loader import TrainLoader, seeded
from ..modeling.batches import padded_size
from ..utils.errors import ConfigError
from ..utils.memory import available_bytes, forget_highest, free_unused, highest_resident_bytes, resident_bytes
from ..utils.text import counted
from .averaging import WeightAverage
from .schedule import length_of_training, scale_schedule, scale_to_processes
from .steps import TrainingStep, amp_dtype
from .trainer import Trainer

logger = logging.getLogger(__name__)

AUTO = "auto"
SEVERAL = (3, 2)  # images of the step that is measured beside that of one: the first number that fits
STEPS = 2  # of each; the first one makes the state of the optimizer
SEED = 0  # of the weights and the augmentation that are measured
WHOLE = (  # options with which no augmentation takes objects away
    *("INPUT.CROP.ENABLED", False, "INPUT.ERASE.PROB", 0.0, "INPUT.LSJ.SCALES", (1.0, 1.0)),
    *("INPUT.SSD.MAX_EXPAND", 1.0, "INPUT.SSD.MIN_CROP", 1.0),
)
SHARE = 0.8  # of the memory that is available; the rest is for loading images and for fragmentation
MOST = 64  # images of a process; larger batches are no faster
GIGA = 1e9


def set_batch_size(cfg: CfgNode, batch_size: str, resume: bool = False, trainer: type[Trainer] = Trainer) -> CfgNode:
    """Return the config for a batch size, with the learning rate in proportion and as many epochs; log what changed.

    Args:
        cfg: Config for ``SOLVER.REFERENCE_WORLD_SIZE`` processes.
        batch_size: Images of an iteration, in all processes; "auto" for as many as fit in memory; "" for the config's.
        resume: Whether a training is continued.
        trainer: Class that builds the model.

    Raises:
        ConfigError: A resumed training would change its batch size, or not even one image fits.
    """
    if not batch_size:
        return cfg
    if batch_size == AUTO and resume:
        raise ConfigError(
            "--batch-size auto may choose another batch size than the training that --resume continues: give the "
            "--batch-size that its log.txt names"
        )
    if cfg.SOLVER.REFERENCE_WORLD_SIZE not in (0, comm.get_world_size()):  # or else the trainer says the same
        cfg = scale_to_processes(cfg, comm.get_world_size())
    size = find_batch_size(cfg, trainer) if batch_size == AUTO else int(batch_size)
    before, rate = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR
    scaled = cfg.clone()
    scaled.defrost()
    scaled.SOLVER.REFERENCE_WORLD_SIZE = before  # Detectron2's rule, with batch sizes in place of processes
    scaled = scale_schedule(scaled, size)
    scaled.defrost()
    scaled.SOLVER.REFERENCE_WORLD_SIZE = 0
    scaled.freeze()
    solver = scaled.SOLVER
    logger.info(
        f"--batch-size {size}: learning rate {rate:g} x {size} / {before} = {solver.BASE_LR:g}, "
        f"{length_of_training(scaled)}{'' if solver.EPOCHS else f' with a warm-up of {solver.WARMUP_ITERS}'}"
    )
    return scaled


def find_batch_size(cfg: CfgNode, trainer: type[Trainer] = Trainer) -> int:
    """Return how many images fit in memory in a training step of all processes; see :func:`set_batch_size`.

    The training that follows begins with the same random numbers as without it.
    """
    on_cpu = torch.device(cfg.MODEL.DEVICE).type == "cpu"
    with seeded(SEED), torch.random.fork_rng([] if on_cpu else [torch.cuda.current_device()]):
        return _find_batch_size(cfg, trainer)


def _find_batch_size(cfg: CfgNode, trainer: type[Trainer]) -> int:
    parts, processes = cfg.SOLVER.ACCUMULATE, comm.get_world_size()
    probe = _Probe(cfg, trainer)
    fixed, per_image = probe.measure()
    if probe.on_cpu and per_image < probe.least():
        logger.warning(
            "--batch-size auto: less memory was measured than images take, as this process uses that of earlier "
            "trainings again: the batch may be too large; start the training in a process of its own"
        )
    budget = probe.budget()
    fits = min(comm.all_gather(int((budget - fixed) / max(per_image, 1))))
    most = min(MOST, max(1, probe.num_images // (parts * processes)))
    images = min(fits, most)
    while images >= 1 and not probe.fits(images):
        images -= max(1, images // 10)
    probe.close()
    if images < 1:
        raise _too_large(fixed + per_image if fits < 1 else math.inf, budget)
    size = images * parts * processes
    logger.info(
        f"--batch-size auto: a training step takes {fixed / GIGA:.2f} GB, with optimizer"
        f"{' and average of the weights' if cfg.MODEL.EMA.ENABLED else ''}, and {per_image / GIGA:.2f} GB per image; "
        f"{SHARE:.0%} of what is available are {budget / GIGA:.2f} GB: {counted(images, 'image')}"
        f"{f', of at most {most}' if images == most else ''}, {size} in an iteration"
    )
    return size


def _too_large(needed: float, budget: float) -> ConfigError:
    """Return the error for a step with one image that takes more than the budget, both in bytes."""
    takes = f"{needed / GIGA:.1f}" if math.isfinite(needed) else f"more than {budget / SHARE / GIGA:.1f}"
    return ConfigError(
        f"--batch-size auto: a step with one image takes {takes} GB, but {budget / GIGA:.1f} GB are available: lower "
        "INPUT.MIN_SIZE_TRAIN and INPUT.MAX_SIZE_TRAIN, or set MODEL.BACKBONE.GRADIENT_CHECKPOINTING True"
    )


class _ProbedStep(TrainingStep):
    """A step whose loss, of weights that are not loaded, may be anything."""

    def after_backward(self) -> None:
        # After infinite gradients, float16 skips the step that makes the state of the optimizer; other types take it,
        # but some models refuse weights that are not finite
        self.optimizer.zero_grad(set_to_none=False)

    def _write_metrics(self, *args: Any, **kwargs: Any) -> None:
        pass


class _Probe:
    """Training steps with the image that has the most objects, all of them, at the largest size of the training."""

    def __init__(self, cfg: CfgNode, trainer: type[Trainer]) -> None:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (max(cfg.INPUT.MIN_SIZE_TRAIN),), "choice"
        if cfg.INPUT.CROP.ENABLED or cfg.INPUT.ERASE.PROB:  # which make bitmasks of polygons
            cfg.INPUT.MASK_FORMAT = "bitmask"
        for node in (cfg.INPUT.COPY_PASTE, cfg.INPUT.MOSAIC):  # which add objects
            node.PROB = float(node.PROB > 0)
        cfg.merge_from_list(list(WHOLE))
        cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.ACCUMULATE = 0, 1
        cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.EPOCHS = comm.get_world_size(), 0
        cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.STEPS, cfg.SOLVER.TRACKERS = 0, (), []
        cfg.TEST.LOSS, cfg.TEST.KEEP_BEST, cfg.TEST.PATIENCE = False, "", 0
        self.cfg, self.on_cpu = cfg, torch.device(cfg.MODEL.DEVICE).type == "cpu"
        gc.collect()
        if self.on_cpu:
            free_unused()  # or memory of trainings before would be used again, and not counted
        self.before = self._now()
        logging.disable(logging.INFO)  # of what the training itself will log
        try:
            self.trainer: Trainer | None = trainer(cfg)
        finally:
            logging.disable(logging.NOTSET)
        loader = self.trainer.data_loader
        assert isinstance(loader, TrainLoader)
        self.num_images = loader.num_images
        self.sample = loader.sample_with_most_objects()
        self.scale = self._worst_area() / self._area(self.sample)

    def measure(self) -> tuple[float, float]:
        """Return the bytes of a step without images, and those of each image: the most of any process.

        Where only one image fits, all that its step takes counts as the image's; where none does, it is infinite.
        """
        one = self._try(1)
        if one is None:
            return 0.0, math.inf
        budget = min(comm.all_gather(self.budget()))
        for images in SEVERAL:
            if self.on_cpu and images * one > budget:  # it might end this process
                continue
            if (several := self._try(images)) is not None:
                per_image = max(0.0, (several - one) / (images - 1))  # what was measured varies
                return max(0.0, one - per_image), per_image * max(1.0, self.scale)
        return 0.0, one

    def least(self) -> int:
        """Return the bytes of the pixels of an image, which no step takes less than."""
        return self._area(self.sample) * self.cfg.INPUT.CHANNELS * torch.float32.itemsize

    def budget(self) -> float:
        """Return the bytes that a step may take, those that it takes now included."""
        if self.on_cpu:
            return SHARE * (available_bytes() / comm.get_local_size() + self._now() - self.before)
        free, _ = torch.cuda.mem_get_info()
        return SHARE * (free + torch.cuda.memory_reserved())

    def fits(self, images: int) -> bool:
        """Return whether a step runs; on a CPU, where it would end this process, it is not tried."""
        return self.on_cpu or self._try(images) is not None

    def close(self) -> None:
        """Free the memory."""
        self.trainer = None
        gc.collect()
        if not self.on_cpu:
            torch.cuda.empty_cache()

    def _try(self, images: int) -> float | None:
        """Return the highest memory of any process in steps with a number of images, or None if one lacks it."""
        peak = None
        with suppress(torch.cuda.OutOfMemoryError):
            peak = self._peak(images)
        found = comm.all_gather(peak)
        return None if None in found else max(found)

    def _peak(self, images: int) -> float:
        """Return the highest memory of steps with a number of images, in bytes."""
        assert self.trainer is not None
        trainer, ema = self.trainer, self.cfg.MODEL.EMA
        model = trainer.checkpointer.model  # not DDP's around it, which takes no step after one that lacked memory
        average = WeightAverage(model, ema.DECAY) if ema.ENABLED else None
        if average is not None:
            average.start()
        self._forget()
        loader = itertools.repeat([self.sample] * images)
        step = _ProbedStep(model, loader, trainer.optimizer, dtype=amp_dtype(self.cfg))
        with EventStorage(1):
            for step.iter in range(STEPS):
                step.run_step()
                if average is not None:
                    average.update()
        return self._highest() - self.before

    def _area(self, sample: dict[str, Any]) -> int:
        assert self.trainer is not None
        height, width = padded_size(sample["image"].shape, self.trainer.checkpointer.model)[-2:]
        return height * width

    def _worst_area(self) -> int:
        """Return the pixels of the largest image that the options of ``INPUT`` allow."""
        if self.cfg.INPUT.LSJ.ENABLED:  # all images have one size
            return self._area(self.sample)
        short, long = max(self.cfg.INPUT.MIN_SIZE_TRAIN), self.cfg.INPUT.MAX_SIZE_TRAIN
        return self._area({"image": torch.empty(3, min(short, long) or long, long, device="meta")})

    def _now(self) -> int:
        return resident_bytes() if self.on_cpu else torch.cuda.memory_allocated()

    def _forget(self) -> None:
        gc.collect()
        if self.on_cpu:
            free_unused()
            forget_highest()
        else:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def _highest(self) -> int:
        return highest_resident_bytes() if self.on_cpu else torch.cuda.max_memory_reserved()
