"""Training batches that are the same however often training is interrupted."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.build import trivial_batch_collator
from detectron2.data.samplers import RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

Sample = dict[str, Any]
Mapper = Callable[[Sample], Sample]
_Key = tuple[int, int, int]  # index of the image, seed of the training, position in the stream of all processes


class TrainLoader:
    """Iterates over the batches of this process: lists of mapped samples, without end, from batch ``start_iter`` on.

    Which images a batch has, and what random augmentation does to each, depends on ``seed``, the number of the batch,
    the batch size and the number of processes alone: not on when training was interrupted, nor on the worker processes.
    Both ``seed`` and ``start_iter`` may be set until the iteration begins.

    Differs from Detectron2's loader, whose stream begins anew whenever training is resumed.
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
            dataset: dicts in Detectron2's standard format.
            mapper: turns one of them into a sample of the model's input format; random through the global generators
                of ``random``, ``numpy`` and ``torch`` only.
            build_sampler: gives the infinite stream of indices of this process for a seed.
            seed: of the stream and of the augmentation; the same in all processes.
            batch_size: images a batch of this process.
            num_workers: worker processes that map samples.
            aspect_ratio_grouping: a batch has either wide or high images.
        """
        self.seed = seed
        self.start_iter = 0
        self._samples = _SeededSamples(dataset, mapper)
        self._build_sampler = build_sampler
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._is_wide = [d["width"] > d["height"] for d in dataset] if aspect_ratio_grouping else [True] * len(dataset)

    def __iter__(self) -> Iterator[list[Sample]]:
        yield from DataLoader(
            self._samples,
            batch_sampler=itertools.islice(self._batches(), self.start_iter, None),
            num_workers=self._num_workers,
            collate_fn=trivial_batch_collator,
            generator=torch.Generator(),  # or else it would draw from the generator of the process
        )

    def _batches(self) -> Iterator[list[_Key]]:
        """The batches of this process from the first on, as the keys of their samples."""
        rank, world_size = comm.get_rank(), comm.get_world_size()
        groups: dict[bool, list[_Key]] = {True: [], False: []}
        for k, index in enumerate(self._build_sampler(self.seed)):
            group = groups[self._is_wide[index]]
            group.append((index, self.seed, rank + k * world_size))
            if len(group) == self._batch_size:
                yield group[:]
                group.clear()


class _SeededSamples(Dataset):
    """Maps the image of a key under random generators seeded with the rest of the key, and leaves others alone."""

    def __init__(self, dataset: Sequence[Sample], mapper: Mapper) -> None:
        self._dataset = DatasetFromList(list(dataset))
        self._mapper = mapper

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: _Key) -> Sample:
        index, seed, position = key
        with _seeded(mix_seeds(seed, position)):
            return self._mapper(self._dataset[index])


def mix_seeds(*numbers: int) -> int:
    """A seed below 2**32 that depends on all numbers (not negative); neighbours' seeds have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The CPU's global random generators start from ``seed`` inside, and continue as if nothing had been afterwards."""
    # The legacy generator of numpy is the one that Detectron2's augmentations use.
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


@contextmanager
def _coco_errors(names: Sequence[str]) -> Iterator[None]:
    """Inside, what goes wrong in reading a dataset becomes one sentence that names its file."""
    try:
        yield
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError) as error:
        files = ", ".join(str(MetadataCatalog.get(name).get("json_file", f"the dataset {name}")) for name in names)
        raise ValueError(
            f"{files} cannot be read as annotations in COCO format ({type(error).__name__}: {error}); "
            "'centermask-solo check-dataset' tells more"
        ) from error


def load_dataset(name: str) -> list[Sample]:
    """The dicts of a registered dataset in Detectron2's standard format.

    Raises:
        ValueError: its file is not in COCO format, in one sentence.
    """
    with _coco_errors([name]):
        return DatasetCatalog.get(name)


def build_train_loader(cfg: CfgNode, mapper: Mapper) -> TrainLoader:
    """The loader of ``DATASETS.TRAIN``: options as in Detectron2, samples as ``mapper`` makes them.

    Raises:
        ValueError: the sampler is unknown, or the batch cannot be divided among the processes.
    """
    with _coco_errors(cfg.DATASETS.TRAIN):
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
    world_size = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH % world_size:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which {world_size} processes cannot share equally: "
            f"choose a multiple of {world_size}"
        )
    return TrainLoader(
        dataset,
        mapper,
        build_sampler=_sampler_builder(cfg, dataset),
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        batch_size=cfg.SOLVER.IMS_PER_BATCH // world_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
    )


def _sampler_builder(cfg: CfgNode, dataset: Sequence[Sample]) -> Callable[[int], Sampler]:
    """What makes the sampler named in the config for a given seed."""
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return lambda seed: TrainingSampler(len(dataset), seed=seed)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return lambda seed: RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return lambda seed: RandomSubsetTrainingSampler(len(dataset), ratio, seed_shuffle=seed, seed_subset=seed)
    raise ValueError(
        f"DATALOADER.SAMPLER_TRAIN {name!r} is not known here: use TrainingSampler, RepeatFactorTrainingSampler or "
        "RandomSubsetTrainingSampler"
    )
