"""The checkpoints in the folder of a training: which is the newest, and which can be read."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

from ..utils.errors import WeightsError
from .files import read_weights

logger = logging.getLogger(__name__)

LAST_CHECKPOINT = "last_checkpoint"  # Detectron2's file that names the newest one
_CHECKPOINT = re.compile(r"model_(\d+|final)\.pth")  # as Detectron2 names them


def checkpoints_in(folder: str) -> list[str]:
    """Return the paths of the checkpoints of a training, by name."""
    return sorted(str(path) for path in Path(folder).glob("*.pth") if _CHECKPOINT.fullmatch(path.name))


def has_checkpoints(folder: str) -> bool:
    """Return whether a folder holds a checkpoint, or a ``last_checkpoint``, though they may not name each other."""
    return bool(folder and (os.path.lexists(os.path.join(folder, LAST_CHECKPOINT)) or checkpoints_in(folder)))


def find_checkpoint(folder: str) -> str:
    """Return the newest checkpoint of a folder, or "" if it holds none.

    It is the one that ``last_checkpoint`` names. Where it names none, it is the newest that can be read, and a line of
    the log says so.

    Raises:
        WeightsError: There are checkpoints or a ``last_checkpoint``, but none that can be read.
    """
    named = _named_checkpoint(folder)
    if os.path.isfile(named) or not has_checkpoints(folder):
        return named
    path = newest_intact(folder)
    if not path:
        raise WeightsError(
            f"{named or os.path.join(folder, LAST_CHECKPOINT)} is not a checkpoint that can be read, and there is no "
            "other: start over with --overwrite"
        )
    logger.warning(
        f"{folder} has no {LAST_CHECKPOINT} that names one of its checkpoints; the newest intact one is {path}"
    )
    return path


def _named_checkpoint(folder: str) -> str:
    """Return the path that ``last_checkpoint`` names, which need not exist; "" if it names none."""
    try:
        name = Path(folder, LAST_CHECKPOINT).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return os.path.join(folder, name) if name.isprintable() and 0 < len(name) < 1000 else ""


def newest_intact(folder: str, damaged: str = "") -> str:
    """Return the checkpoint of most iterations that can be read; "" if there is none.

    Args:
        folder: Folder of a training.
        damaged: Path of one that is passed over.
    """
    found = [(_iteration_of(path), path) for path in checkpoints_in(folder) if path != damaged]
    return next((path for iteration, path in sorted(found, reverse=True) if iteration >= 0 and _is_intact(path)), "")


def _iteration_of(path: str) -> int:
    """Return the iteration after which a checkpoint was written; -1 if it cannot be read, or is none to resume."""
    try:
        iteration = read_weights(path, mapped=True).metadata.get("iteration")
    except WeightsError:
        return -1
    return iteration if isinstance(iteration, int) else -1


def check_sums(path: str) -> None:
    """Raise WeightsError if a checkpoint differs from its checksums, which PyTorch does not compare."""
    try:
        if not is_zipfile(path):
            return
        with ZipFile(path) as archive:
            faulty = archive.testzip()
    except BadZipFile as error:
        faulty = str(error)
    if faulty:
        raise WeightsError(f"{path} is damaged ({faulty}): restore it from another copy")


def _is_intact(path: str) -> bool:
    try:
        check_sums(path)
        read_weights(path)
    except WeightsError:
        return False
    return True
