"""Precomputed proposals for Fast R-CNN: files as Detectron2 reads them, their check, and selective search."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from multiprocessing import get_context
from typing import Any, NamedTuple

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from numpy.typing import NDArray

from .images import IMAGE_ERRORS, unreadable_image
from .loader import Sample, load_dataset

ximgproc: Any = getattr(cv2, "ximgproc", None)  # of OpenCV's contrib build
SCRIPT = "datasets/prepare_proposals.py"
# Names of Detectron2's keys in files of Detectron1
OLD_KEYS = {"indexes": "ids", "scores": "objectness_logits"}
# What a file of arrays needs; numpy has renamed its modules
SAFE_GLOBALS = {
    ("_codecs", "encode"),
    ("__builtin__", "bytes"),  # of an empty array
    ("detectron2.structures.boxes", "BoxMode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class Proposals(NamedTuple):
    """The proposals of an image."""

    boxes: NDArray[np.float32]  # (R, 4): x0 y0 x1 y1, pixels of the image file
    objectness_logits: NDArray[np.float32]  # (R,)


def write_proposals(path: str, dataset: Sequence[Sample], proposals: Iterable[Proposals], source: str) -> None:
    """Write the file that ``DATASETS.PROPOSAL_FILES_TRAIN`` and ``_TEST`` name, whole or not at all.

    Args:
        path: of the file; its folder is made if need be.
        dataset: dicts in Detectron2's standard format.
        proposals: of each of them.
        source: how they were made, in words, which the file keeps.
    """
    content: dict[str, Any] = {"ids": [], "boxes": [], "objectness_logits": [], "source": source}
    for sample, (boxes, logits) in zip(dataset, proposals, strict=True):
        content["ids"].append(sample["image_id"])
        content["boxes"].append(boxes)
        content["objectness_logits"].append(logits)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(f"{path}.part", "wb") as file:
        pickle.dump(content | {"bbox_mode": BoxMode.XYXY_ABS.value}, file)
    os.replace(f"{path}.part", path)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain values, refuses whatever could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in SAFE_GLOBALS:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}, which could run code")
        return super().find_class(module, name)


def read_proposals(path: str) -> dict[str, Any]:
    """The content of a file of proposals, with Detectron2's keys, read without running code from it.

    Args:
        path: of the file, or a URL that Detectron2 knows.

    Raises:
        FileNotFoundError: there is none, or it cannot be fetched.
        ValueError: it is no such file.
    """
    try:
        local = PathManager.get_local_path(path)
    except Exception as error:  # whatever the handler of the URL raises
        raise FileNotFoundError(f"the proposals {path} cannot be fetched: {error}; {SCRIPT} makes some") from error
    if not os.path.isfile(local):
        raise FileNotFoundError(f"there is no file of proposals {path}: {SCRIPT} makes it")
    try:
        with open(local, "rb") as file:
            found = _ArrayUnpickler(file, encoding="latin1").load()
        content = {OLD_KEYS.get(key, key): value for key, value in found.items()}
        ids, boxes, logits = (content[key] for key in ("ids", "boxes", "objectness_logits"))
        fits = all(np.shape(b) == (len(x), 4) for b, x in zip(boxes, logits, strict=True)) and len(ids) == len(boxes)
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is no file of proposals ({reason}); {SCRIPT} makes one") from error
    if not fits:
        raise ValueError(f"{path} does not have 4 numbers a box and one score each for every image: make it anew")
    return content


def check_proposals(cfg: CfgNode, for_training: bool) -> None:
    """Nothing, if the proposals that a model needs are there for every image of its datasets.

    Args:
        cfg: whose datasets are registered and sound.
        for_training: else only ``DATASETS.TEST`` counts.

    Raises:
        ValueError, FileNotFoundError: they are not, in one sentence.
    """
    if not cfg.MODEL.LOAD_PROPOSALS:
        if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and (
            cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals"
        ):
            raise ValueError(
                "MODEL.PROPOSAL_GENERATOR.NAME is 'PrecomputedProposals', but MODEL.LOAD_PROPOSALS is False: set it "
                "True, and name the files in DATASETS.PROPOSAL_FILES_TRAIN and DATASETS.PROPOSAL_FILES_TEST"
            )
        return
    for split in ("TRAIN", "TEST") if for_training else ("TEST",):
        key, names = f"DATASETS.PROPOSAL_FILES_{split}", cfg.DATASETS[split]
        files = cfg.DATASETS[f"PROPOSAL_FILES_{split}"]
        if len(files) != len(names):
            raise ValueError(
                f"{key} names {len(files)} files, but DATASETS.{split} {len(names)} datasets: name one file for each"
            )
        for name, path in zip(names, files, strict=True):
            _check_ids(name, path)


def _check_ids(name: str, path: str) -> None:
    known = {str(x) for x in read_proposals(path)["ids"]}
    ids = [sample["image_id"] for sample in load_dataset(name)]
    missing = [x for x in ids if str(x) not in known]
    if missing:
        raise ValueError(
            f"{path} has no proposals for {len(missing)} of the {len(ids)} images of '{name}' (such as the id "
            f"{missing[0]}): name the file of this dataset, or make it with {SCRIPT}"
        )


def selective_search(dataset: Sequence[Sample], num_workers: int = 1) -> Iterator[Proposals]:
    """The proposals of each image by selective search in its fast mode; earlier regions have higher logits.

    Args:
        dataset: dicts in Detectron2's standard format.
        num_workers: processes that share the images.

    Raises:
        ValueError: OpenCV is not its contrib build, or an image is damaged.
        FileNotFoundError: an image is missing.

    Source: J. Uijlings et al., "Selective Search for Object Recognition", IJCV 2013; OpenCV's implementation.
    """
    if ximgproc is None:
        raise ValueError(
            "selective search is in OpenCV's contrib build only: install opencv-contrib-python-headless in the place "
            "of opencv-python-headless, or name a trained RPN with --rpn CONFIG WEIGHTS"
        )
    return _selective_search([sample["file_name"] for sample in dataset], num_workers)


def _selective_search(paths: Sequence[str], num_workers: int) -> Iterator[Proposals]:
    if num_workers == 1:
        yield from map(_search, paths)
        return
    with closing(get_context("spawn").Pool(num_workers)) as pool:
        yield from pool.imap(_search, paths)


def _search(path: str) -> Proposals:
    try:
        image = read_image(path, "BGR")
    except IMAGE_ERRORS as error:
        raise unreadable_image(path, error) from error
    search = ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(image)
    search.switchToSelectiveSearchFast()
    rectangles = np.asarray(search.process(), np.float32).reshape(-1, 4)  # x y width height
    boxes = np.concatenate([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]], axis=1)
    return Proposals(boxes, -np.arange(len(boxes), dtype=np.float32))
