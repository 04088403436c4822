"""Files of precomputed proposals for Fast R-CNN, in Detectron2's format: write, read and check them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from numpy.typing import NDArray

from ..utils.errors import ConfigError, DataError
from ..utils.files import atomic_write
from ..utils.pickles import DAMAGED, UnsafePickleError, load_arrays
from ..utils.text import counted, first_line
from .datasets import Sample, load_dataset

SCRIPT = "datasets/prepare_proposals.py"
# Detectron2's keys by their names in files of Detectron1
OLD_KEYS = {"indexes": "ids", "scores": "objectness_logits"}
SAFE_GLOBALS = {("detectron2.structures.boxes", "BoxMode")}


class Proposals(NamedTuple):
    """The proposals of an image."""

    boxes: NDArray[np.float32]  # (R, 4): x0 y0 x1 y1, pixels of the image file
    objectness_logits: NDArray[np.float32]  # (R,)


def write_proposals(path: str, dataset: Sequence[Sample], proposals: Iterable[Proposals], source: str) -> None:
    """Write a file for ``DATASETS.PROPOSAL_FILES_TRAIN`` or ``_TEST``.

    Args:
        path: File to write; its folder is created if it does not exist.
        dataset: Samples in Detectron2's standard format.
        proposals: Proposals of each sample.
        source: Description of how they were made, which the file keeps.
    """
    content: dict[str, Any] = {"ids": [], "boxes": [], "objectness_logits": [], "source": source}
    for sample, (boxes, logits) in zip(dataset, proposals, strict=True):
        content["ids"].append(sample["image_id"])
        content["boxes"].append(boxes)
        content["objectness_logits"].append(logits)
    with atomic_write(path, "wb") as file:
        pickle.dump(content | {"bbox_mode": BoxMode.XYXY_ABS.value}, file)


def read_proposals(path: str) -> dict[str, Any]:
    """Return the content of a proposal file, with Detectron2's keys, without running code from it.

    Args:
        path: Path of the file, or a URL that Detectron2 knows.

    Raises:
        DataError: The file is missing, cannot be fetched, or is not a proposal file.
    """
    try:
        local = PathManager.get_local_path(path)
    except Exception as error:  # whatever the handler of the URL raises
        raise DataError(
            f"the proposals {path} cannot be fetched ({first_line(error)}): create them with {SCRIPT}"
        ) from error
    if not os.path.isfile(local):
        raise DataError(f"the proposal file {path} is missing: create it with {SCRIPT}, see docs/systems/baselines.md")
    try:
        with open(local, "rb") as file:
            found = load_arrays(file, SAFE_GLOBALS)
        content = {OLD_KEYS.get(key, key): value for key, value in found.items()}
        ids, boxes, logits = (content[key] for key in ("ids", "boxes", "objectness_logits"))
        fits = all(np.shape(b) == (len(x), 4) for b, x in zip(boxes, logits, strict=True)) and len(ids) == len(boxes)
    except UnsafePickleError as error:
        raise DataError(
            f"{path} is not loaded ({error}, which could run code): create it again with {SCRIPT}"
        ) from error
    except DAMAGED as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(f"{path} is not a proposal file ({reason}): create one with {SCRIPT}") from error
    if not fits:
        raise DataError(f"{path} does not have 4 numbers per box and one score each for every image: create it again")
    return content


def check_proposals(cfg: CfgNode, for_training: bool) -> None:
    """Raise an error unless the proposals that a model needs exist for every image of its datasets.

    Args:
        cfg: Config whose datasets are registered and valid.
        for_training: Whether ``DATASETS.TRAIN`` is checked, too, and not only ``DATASETS.TEST``.

    Raises:
        ConfigError: Options contradict each other.
        DataError: A file is missing, is not a proposal file, or lacks images.
    """
    if not cfg.MODEL.LOAD_PROPOSALS:
        if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and (
            cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals"
        ):
            raise ConfigError(
                "MODEL.PROPOSAL_GENERATOR.NAME is 'PrecomputedProposals', but MODEL.LOAD_PROPOSALS is False: set it to "
                "True, and name the files in DATASETS.PROPOSAL_FILES_TRAIN and DATASETS.PROPOSAL_FILES_TEST"
            )
        return
    for split in ("TRAIN", "TEST") if for_training else ("TEST",):
        key, names = f"DATASETS.PROPOSAL_FILES_{split}", cfg.DATASETS[split]
        files = cfg.DATASETS[f"PROPOSAL_FILES_{split}"]
        if len(files) != len(names):
            raise ConfigError(
                f"{key} names {counted(len(files), 'file')}, but DATASETS.{split} "
                f"{counted(len(names), 'dataset')}: name one file for each"
            )
        for name, path in zip(names, files, strict=True):
            _check_ids(name, path)


def _check_ids(name: str, path: str) -> None:
    known = {str(x) for x in read_proposals(path)["ids"]}
    ids = [sample["image_id"] for sample in load_dataset(name)]
    missing = [x for x in ids if str(x) not in known]
    if missing:
        raise DataError(
            f"{path} has no proposals for {len(missing)} of the {len(ids)} images of '{name}' (such as id "
            f"{missing[0]}): name the file of this dataset, or create it with {SCRIPT}"
        )
