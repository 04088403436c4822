"""The batch whose loss or step is not finite, in a file that can be looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.engine import DefaultTrainer
from detectron2.structures import BitMasks, Boxes, Keypoints, PolygonMasks
from detectron2.utils import comm
from torch import Tensor

from ..utils.errors import NonFiniteLossError
from ..utils.files import atomic_write

NAME = "non_finite_batch"


@contextmanager
def evidence_kept(trainer: DefaultTrainer) -> Iterator[None]:
    """Save the last batch if a loss or a parameter is not finite inside; add its file and the last good checkpoint.

    The file has tensors, numbers and texts only; :func:`torch.load` reads it. Of several processes, each whose loss is
    not finite saves its batch, and the error of all names all files.

    Args:
        trainer: Its step keeps the ``batch``.

    Raises:
        NonFiniteLossError: The error that came from inside, with the files.
    """
    try:
        yield
    except NonFiniteLossError as error:
        step, checkpointer = trainer._trainer, trainer.checkpointer
        bad = step.bad_processes or [comm.get_rank()]  # what a checkpoint finds, only the main process finds
        iteration = min(trainer.iter, trainer.max_iter - 1)  # the evaluation at the end has max_iter itself
        try:
            if comm.get_rank() in bad:
                with atomic_write(_path(checkpointer.save_dir, comm.get_rank()), "wb") as file:
                    torch.save({"iteration": iteration, "batch": [_plain(x) for x in step.batch]}, file)
        finally:
            if step.bad_processes:
                comm.synchronize()  # the end of the main process ends the others
        paths = [_path(checkpointer.save_dir, rank) for rank in bad]
        kept = f"the batch is in {paths[0]}" if len(paths) == 1 else f"the batches are in {' and '.join(paths)}"
        last = checkpointer.get_checkpoint_file() if checkpointer.has_checkpoint() else ""
        good = f"the last checkpoint, {last}, has finite weights" if last else "there is no checkpoint yet"
        raise NonFiniteLossError(f"{error}; {kept}, and {good}") from error


def _path(folder: str, rank: int) -> str:
    """Return the file for the batch of a process."""
    suffix = f"_{rank}" if comm.get_world_size() > 1 else ""
    return os.path.join(folder, f"{NAME}{suffix}.pth")


def _plain(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample as tensors, numbers and texts; ground truth under its own names."""
    plain = {name: value for name, value in sample.items() if isinstance(value, (Tensor, int, float, str))}
    if "instances" in sample:
        for name, value in sample["instances"].get_fields().items():
            if isinstance(value, (BitMasks, Boxes, Keypoints)):
                value = value.tensor
            elif isinstance(value, PolygonMasks):
                value = [[torch.as_tensor(polygon) for polygon in polygons] for polygons in value.polygons]
            plain[name] = value
    return plain
