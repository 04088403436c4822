"""The losses of a model on the images that it is evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MapDataset
from detectron2.data.build import trivial_batch_collator
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.data import ConcatDataset, DataLoader

from ..data.coco_samples import Sample
from ..data.datasets import load_dataset
from ..data.mapper import InstanceMapper
from ..evaluation.annotated import has_objects
from ..evaluation.by_name import order_in_dataset
from ..modeling.layers import DropBlock
from ..utils.errors import ConfigError

SEED = 0  # of what a model draws at random for its losses
PLAIN = (  # options that change images
    *("INPUT.LSJ.ENABLED", False, "INPUT.COLOR", "none", "INPUT.ERASE.PROB", 0.0),
    *("INPUT.RANDOM_FLIP", "none", "INPUT.CROP.ENABLED", False, "INPUT.MIN_SIZE_TRAIN_SAMPLING", "choice"),
    *("INPUT.SSD.PHOTOMETRIC", False, "INPUT.SSD.MAX_EXPAND", 1.0, "INPUT.SSD.MIN_CROP", 1.0),
)


class ValidationLoss:
    """The mean training losses over ``DATASETS.TEST``, without augmentation, at the size of evaluation."""

    def __init__(
        self, cfg: CfgNode, training_data: Mapping[str, Any], thing_classes: Sequence[str] | None = None
    ) -> None:
        """
        Args:
            cfg: Config of the training.
            training_data: What the model needs, as arguments of :class:`InstanceMapper`.
            thing_classes: Class names of the model, by which those of the datasets are matched; None if unknown.

        Raises:
            ConfigError: There are no images to evaluate on, or a dataset has no objects.
            DataError: A dataset has other classes than the model.
        """
        if not cfg.DATASETS.TEST:
            raise ConfigError("TEST.LOSS needs images, but DATASETS.TEST is empty: name a dataset there")
        for name in cfg.DATASETS.TEST:
            if not has_objects(name):
                raise ConfigError(
                    f"TEST.LOSS needs annotated images, but those of '{name}' have no objects: give their annotations, "
                    "or set TEST.LOSS False"
                )
        plain = cfg.clone()
        plain.defrost()
        plain.merge_from_list(list(PLAIN))
        plain.INPUT.MIN_SIZE_TRAIN, plain.INPUT.MAX_SIZE_TRAIN = (cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST
        mapper = InstanceMapper(plain, is_train=True, **training_data)
        self._data: ConcatDataset = ConcatDataset(
            [
                MapDataset(load_dataset(name), _in_order_of_model(mapper, order_in_dataset(thing_classes, name)))
                for name in cfg.DATASETS.TEST
            ]
        )
        size = max(1, cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size() // cfg.SOLVER.ACCUMULATE)
        self._batches, self._weights = batches_of_process(len(self._data), size, comm.get_rank(), comm.get_world_size())
        self._num_workers = cfg.DATALOADER.NUM_WORKERS

    def compute(self, model: nn.Module) -> dict[str, float]:
        """Return the mean of each loss over all images, and their sum as ``total_loss``; the same in all processes.

        Args:
            model: Model in any mode, in which it remains.
        """
        loader = DataLoader(
            self._data,
            batch_sampler=self._batches,
            num_workers=self._num_workers,
            collate_fn=trivial_batch_collator,
            generator=torch.Generator(),
        )
        sums: dict[str, float] = {}
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.no_grad(), torch.random.fork_rng(devices), EventStorage(1), as_in_evaluation(model):
            torch.manual_seed(SEED)
            for batch, weight in zip(loader, self._weights, strict=True):
                for name, loss in model(batch).items():
                    sums[name] = sums.get(name, 0.0) + weight * loss.item()
        parts = comm.all_gather((sums, sum(self._weights)))
        count = sum(part[1] for part in parts)
        losses = {name: sum(part[0][name] for part in parts) / count for name in sums}
        return {"total_loss": sum(losses.values()), **losses}


def _in_order_of_model(mapper: Callable[[Sample], Sample], order: Sequence[int] | None) -> Callable[[Sample], Sample]:
    """Return a mapper of samples whose categories are those of a dataset, in which the model's have this order."""
    if order is None:
        return mapper
    return partial(_map_in_order, mapper, {theirs: ours for ours, theirs in enumerate(order)})


def _map_in_order(mapper: Callable[[Sample], Sample], ours: Mapping[int, int], sample: Sample) -> Sample:
    objects = [x | {"category_id": ours[x["category_id"]]} for x in sample.get("annotations", [])]
    return mapper(sample | {"annotations": objects} if objects else sample)


def batches_of_process(num_images: int, size: int, rank: int, processes: int) -> tuple[list[list[int]], list[int]]:
    """Return the batches of indices of one process, and how much each counts: as much as it has images.

    All processes have the same number of batches, because losses may communicate; what fills it up does not count.
    """
    indices = range(rank, num_images, processes)
    batches: list[list[int]] = [list(indices[i : i + size]) for i in range(0, len(indices), size)]
    largest = -(-num_images // processes)
    missing = -(-largest // size) - len(batches)
    return [*batches, *[[0]] * missing], [*map(len, batches), *[0] * missing]


@contextmanager
def as_in_evaluation(model: nn.Module) -> Iterator[None]:
    """Let the model compute losses inside the context, with the layers that change in training as in evaluation."""
    before = [(module, module.training) for module in model.modules()]
    model.train()
    for module, _ in before:
        if isinstance(module, (_BatchNorm, _DropoutNd, DropBlock)):
            module.training = False
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
