"""Proposals by selective search, as OpenCV's contrib build implements it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np

from ..utils.errors import UserError
from .datasets import Sample
from .images import read_image
from .proposals import Proposals

ximgproc: Any = getattr(cv2, "ximgproc", None)  # of OpenCV's contrib build


def selective_search(dataset: Sequence[Sample], num_workers: int = 1) -> Iterator[Proposals]:
    """Return the proposals of each image by selective search in its fast mode; earlier regions have higher logits.

    Args:
        dataset: Samples in Detectron2's standard format.
        num_workers: Processes that share the images.

    Raises:
        UserError: OpenCV is not its contrib build.
        DataError: An image is missing or damaged.

    Source: J. Uijlings et al., "Selective Search for Object Recognition", IJCV 2013; OpenCV's implementation.
    """
    if ximgproc is None:
        raise UserError(
            "selective search needs OpenCV's contrib build: install opencv-contrib-python-headless instead of "
            "opencv-python-headless, or name a trained RPN with --rpn CONFIG WEIGHTS"
        )
    return _selective_search([sample["file_name"] for sample in dataset], min(num_workers, len(dataset)))


def _selective_search(paths: Sequence[str], num_workers: int) -> Iterator[Proposals]:
    if num_workers <= 1:
        yield from map(_search, paths)
        return
    with closing(get_context("spawn").Pool(num_workers)) as pool:
        yield from pool.imap(_search, paths)


def _search(path: str) -> Proposals:
    image = read_image(path, "BGR", max_pixels=0)
    search = ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(image)
    search.switchToSelectiveSearchFast()
    rectangles = np.asarray(search.process(), np.float32).reshape(-1, 4)  # x y width height
    boxes = np.concatenate([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]], axis=1)
    return Proposals(boxes, -np.arange(len(boxes), dtype=np.float32))
