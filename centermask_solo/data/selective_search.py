"""Proposals of the images of a dataset by selective search."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from multiprocessing import get_context

import numpy as np
from detectron2.config import CfgNode
from tqdm import tqdm

from ..ops.selective_search import describe_search, selective_search
from .datasets import Sample, load_dataset
from .images import read_image
from .proposals import Proposals, write_proposals


def write_missing_proposals(cfg: CfgNode, mode: str, num_workers: int) -> dict[str, int]:
    """Write, by selective search, the proposal files of a config that do not exist; return their numbers of images.

    Args:
        cfg: Config whose datasets are registered, with a file in ``DATASETS.PROPOSAL_FILES_*`` for each.
        mode: See :func:`search_dataset`.
        num_workers: Processes that share the images.

    Raises:
        UserError: See :func:`search_dataset`.
    """
    datasets: dict[str, Sequence[Sample]] = {}
    labels = {}
    for split in ("TRAIN", "TEST"):
        for name, path in zip(cfg.DATASETS[split], cfg.DATASETS[f"PROPOSAL_FILES_{split}"], strict=False):
            if path not in datasets and not os.path.exists(path):
                datasets[path], labels[path] = load_dataset(name), f"proposals of {name}"
    if not datasets:
        return {}
    # For all files with the same processes, each of which takes seconds to start
    proposals = search_dataset([x for dataset in datasets.values() for x in dataset], num_workers, mode)
    for path, dataset in datasets.items():
        found = tqdm(islice(proposals, len(dataset)), labels[path], total=len(dataset), unit=" images")
        write_proposals(path, dataset, found, describe_search(mode))
    return {path: len(dataset) for path, dataset in datasets.items()}


def search_dataset(dataset: Sequence[Sample], num_workers: int = 1, mode: str = "fast") -> Iterator[Proposals]:
    """Return the proposals of each image by selective search; earlier boxes have higher logits.

    Args:
        dataset: Samples in Detectron2's standard format.
        num_workers: Processes that share the images.
        mode: "fast" or "single"; see :data:`~centermask_solo.ops.selective_search.MODES`.

    Raises:
        MissingPackageError: Neither scikit-image nor OpenCV's contrib build is installed.
        DataError: An image is missing or damaged.
    """
    describe_search(mode)  # which fails before the processes start
    return _search_all([sample["file_name"] for sample in dataset], min(num_workers, len(dataset)), mode)


def _search_all(paths: Sequence[str], num_workers: int, mode: str) -> Iterator[Proposals]:
    search = partial(_search, mode=mode)
    if num_workers <= 1:
        yield from map(search, paths)
        return
    with closing(get_context("spawn").Pool(num_workers)) as pool:
        yield from pool.imap(search, paths)


def _search(path: str, mode: str) -> Proposals:
    boxes = selective_search(read_image(path, "RGB", max_pixels=0), mode)
    return Proposals(boxes, -np.arange(len(boxes), dtype=np.float32))
