"""Training batches that do not depend on interruptions of the training."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    MetadataCatalog,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.build import print_instances_class_histogram, trivial_batch_collator
from detectron2.data.samplers import RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..structures.mask_formats import MASK_FORMAT
from ..utils.errors import ConfigError, DataError
from ..utils.text import counted
from .coco_samples import CocoSamples, JoinedSamples, Sample, outlines
from .datasets import check_registered, is_read_here, load_dataset, load_test_images, load_through_gate
from .mixing import MixingMapper, with_mixing

logger = logging.getLogger(__name__)

Mapper = Callable[[Sample], Sample]
DRAWS = 10  # random augmentations of which one keeps about as many objects as any
_Key = tuple[int, int, int]  # image index, seed of the training, position in the stream of all processes


class TrainLoader:
    """An endless iterable of this process's batches, lists of mapped samples, from batch ``start_iter`` on.

    The images of a batch and their random augmentation depend only on ``seed``, the index of the batch, the batch size
    and the number of processes, not on interruptions of the training or on the number of workers. ``seed`` and
    ``start_iter`` may be set until the iteration begins. ``num_images`` and ``num_objects`` count what it draws from.

    Differs: Detectron2's loader restarts its stream whenever training is resumed.
    """

    def __init__(
        self,
        dataset: Sequence[Sample],
        mapper: Mapper,
        *,
        build_sampler: Callable[[int], Sampler],
        seed: int,
        batch_size: int,
        num_workers: int = 0,
        aspect_ratio_grouping: bool = False,
    ) -> None:
        """
        Args:
            dataset: Samples in Detectron2's standard format.
            mapper: Maps a sample to the model's input format; draws random numbers only from the global generators of
                ``random``, ``numpy`` and ``torch``.
            build_sampler: Returns the infinite sampler of this process's indices for a seed.
            seed: Seed of the sampler and of the augmentation; the same in all processes.
            batch_size: Images per batch of this process.
            num_workers: Worker processes that map samples.
            aspect_ratio_grouping: Whether a batch has only landscape or only portrait images.
        """
        self.seed = seed
        self.start_iter = 0
        processes = comm.get_world_size()
        self.batches = (batch_size * processes, processes)  # images of an iteration, and who shares them
        self.num_images = len(dataset)
        self.num_objects = sum(len(sample.get("annotations", [])) for sample in outlines(dataset))
        self._samples = _SeededSamples(dataset, mapper)
        self._build_sampler = build_sampler
        self._batch_size = batch_size
        self._num_workers = num_workers
        wide = (x["width"] > x["height"] for x in outlines(dataset)) if aspect_ratio_grouping else [True] * len(dataset)
        self._is_wide = list(wide)

    def warn_of_other_batches(self, batches: Sequence[int] | None) -> None:
        """Warn if the ``batches`` of an interrupted training were others; None if they are not known."""
        if batches is not None and tuple(batches) != self.batches:
            before, now = (
                f"{counted(images, 'image')} per iteration in {counted(n, 'process')}"
                for images, n in (batches, self.batches)
            )
            logger.warning(
                f"The interrupted training had {before}, this one has {now}: it goes on with other images than it "
                "would have; --batch-size and --num-gpus set both"
            )

    def sample_with_most_objects(self) -> Sample:
        """Return the image that has the most objects, mapped with the augmentation that keeps the most of them."""
        counts = [len(sample.get("annotations", [])) for sample in outlines(self._samples.dataset)]
        drawn = (self._samples[(int(np.argmax(counts)), self.seed, position)] for position in range(DRAWS))
        return max(drawn, key=lambda sample: len(sample.get("instances", ())))

    def __iter__(self) -> Iterator[list[Sample]]:
        yield from DataLoader(
            self._samples,
            batch_sampler=itertools.islice(self._batches(), self.start_iter, None),
            num_workers=self._num_workers,
            collate_fn=trivial_batch_collator,
            generator=torch.Generator(),  # its own, or it would draw from the global one
        )

    def _batches(self) -> Iterator[list[_Key]]:
        """Yield the batches of this process from the first on, as the keys of their samples."""
        rank, world_size = comm.get_rank(), comm.get_world_size()
        groups: dict[bool, list[_Key]] = {True: [], False: []}
        for k, index in enumerate(self._build_sampler(self.seed)):
            group = groups[self._is_wide[index]]
            group.append((index, self.seed, rank + k * world_size))
            if len(group) == self._batch_size:
                yield group[:]
                group.clear()


class _SeededSamples(Dataset):
    """Maps the image of a key with the global random generators seeded by the rest of the key, then restores them."""

    def __init__(self, dataset: Sequence[Sample], mapper: Mapper) -> None:
        packed = isinstance(dataset, (CocoSamples, JoinedSamples))
        self.dataset: Any = dataset if packed else DatasetFromList(list(dataset))
        self._mapper = mapper

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: _Key) -> Sample:
        index, seed, position = key
        if isinstance(self._mapper, MixingMapper):
            self._mapper.position = position
        with seeded(mix_seeds(seed, position)):
            return self._mapper(self.dataset[index])


def mix_seeds(*numbers: int) -> int:
    """Return a seed below 2**32 that depends on all the non-negative numbers; similar numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's global random generators inside the context, and restore their states afterwards."""
    # Detectron2's augmentations use numpy's legacy generator.
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.random.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def build_train_loader(cfg: CfgNode, mapper: Mapper) -> TrainLoader:
    """Return the loader of ``DATASETS.TRAIN``, with Detectron2's options and samples as ``mapper`` makes them.

    Raises:
        ConfigError: A dataset or the sampler is unknown, or the processes cannot share a batch equally.
        DataError: A dataset cannot be read, or no image has an object to train on.
    """
    dataset = load_training_data(cfg)
    world_size, parts = comm.get_world_size(), cfg.SOLVER.ACCUMULATE
    if cfg.SOLVER.IMS_PER_BATCH % (world_size * parts) and parts > 1:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} cannot be computed in SOLVER.ACCUMULATE {parts} equal "
            f"parts by each process, of which there are {world_size}: choose a multiple of {world_size * parts}"
        )
    if cfg.SOLVER.IMS_PER_BATCH % world_size:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which {world_size} processes cannot share equally: "
            f"choose a multiple of {world_size}"
        )
    return TrainLoader(
        dataset,
        with_mixing(cfg, mapper, dataset),
        build_sampler=_sampler_builder(cfg, dataset),
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        batch_size=cfg.SOLVER.IMS_PER_BATCH // world_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
    )


def build_fitting_loader(cfg: CfgNode, mapper: Mapper, max_images: int = 0) -> DataLoader:
    """Return the images of ``DATASETS.TRAIN`` once, one by one in their order.

    Args:
        cfg: Config of the model.
        mapper: Maps samples as training needs them.
        max_images: Most images that are used, spread evenly; 0 for all.
    """
    dataset = load_training_data(cfg)
    count = min(max_images or len(dataset), len(dataset))
    chosen = [dataset[i * len(dataset) // count] for i in range(count)]
    return build_detection_test_loader(chosen, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)


def load_training_data(cfg: CfgNode) -> Sequence[Sample]:
    """Return the samples of ``DATASETS.TRAIN`` that are trained on; raises as :func:`build_train_loader`."""
    names = cfg.DATASETS.TRAIN
    for name in names:
        check_registered(name)
        load_through_gate(name, masks=cfg.MODEL.MASK_ON)
    if all(map(is_read_here, names)) and not cfg.MODEL.LOAD_PROPOSALS:
        parts = [load_dataset(name) for name in names]
        packed = [x for x in parts if isinstance(x, CocoSamples)]
        if len(packed) == len(parts):
            return _join(names, packed, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    try:
        return get_detection_dataset_dicts(
            names,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
    except DataError:
        raise
    except Exception as error:
        # Load the datasets one by one, which raises a DataError if the data is at fault.
        samples = [x for name in names for x in load_dataset(name)]
        has_objects = any(not x.get("iscrowd", 0) for sample in samples for x in sample.get("annotations", []))
        if isinstance(error, AssertionError) and not has_objects:
            raise _without_objects(names) from error
        raise


def _join(names: Sequence[str], parts: Sequence[CocoSamples], filter_empty: bool) -> Any:
    """Return the samples of all datasets as ``get_detection_dataset_dicts`` does, but packed."""
    used = [x.with_objects() if filter_empty else x for x in parts]
    if not any(map(len, used)):
        raise _without_objects(names)
    samples = used[0] if len(used) == 1 else JoinedSamples(used)
    print_instances_class_histogram(_merged(outlines(samples)), MetadataCatalog.get(names[0]).thing_classes)
    return samples


def _merged(samples: Iterable[Sample], count: int = 1000) -> Iterator[Sample]:
    """Yield the annotations of ``count`` samples at a time, because counting takes its time for each entry."""
    rest = iter(samples)
    while some := list(itertools.islice(rest, count)):
        yield {"annotations": [x for sample in some for x in sample["annotations"]]}


def _without_objects(names: Sequence[str]) -> DataError:
    return DataError(f"no image of {', '.join(names)} has an object to train on: correct the json")


def _sampler_builder(cfg: CfgNode, dataset: Sequence[Sample]) -> Callable[[int], Sampler]:
    """Return a function that builds the sampler of ``DATALOADER.SAMPLER_TRAIN`` for a seed."""
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return lambda seed: TrainingSampler(len(dataset), seed=seed)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            list(outlines(dataset)), cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return lambda seed: RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return lambda seed: RandomSubsetTrainingSampler(len(dataset), ratio, seed_shuffle=seed, seed_subset=seed)
    raise ConfigError(
        f"DATALOADER.SAMPLER_TRAIN {name!r} is not supported: use TrainingSampler, RepeatFactorTrainingSampler or "
        "RandomSubsetTrainingSampler"
    )


def _ask_for_compact_masks(mapper: Mapper, sample: Sample) -> Sample:
    """Return a mapped sample that asks for masks as evaluators with the metrics of COCO and LVIS read them fastest."""
    return {**mapper(sample), MASK_FORMAT: "compact"}


def build_test_loader(cfg: CfgNode, dataset_name: str, mapper: Mapper) -> DataLoader:
    """Return Detectron2's loader of a registered dataset, one image at a time, without annotations if it is COCO's.

    Raises:
        ConfigError: The dataset is not registered.
        DataError: Its annotation file has a fault.
    """
    check_registered(dataset_name)
    load_through_gate(dataset_name, masks=cfg.MODEL.MASK_ON)
    if MetadataCatalog.get(dataset_name).get("evaluator_type", "coco") in ("coco", "lvis"):
        mapper = partial(_ask_for_compact_masks, mapper)
    images = None if cfg.MODEL.LOAD_PROPOSALS else load_test_images(dataset_name)
    if images is not None:
        return build_detection_test_loader(images, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)
    return build_detection_test_loader(cfg, dataset_name, mapper=mapper)
