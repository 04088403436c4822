"""The batch whose loss is not finite, in a file that can be looked at."""

from __future__ import annotations

import os
from typing import Any

import torch
from detectron2.structures import BitMasks, Boxes
from detectron2.utils import comm
from torch import Tensor

from ..checkpoint import Checkpointer
from ..utils.errors import NonFiniteLossError
from ..utils.files import atomic_write

NAME = "non_finite_batch"


def with_evidence(
    error: NonFiniteLossError, batch: list[dict[str, Any]], iteration: int, checkpointer: Checkpointer
) -> NonFiniteLossError:
    """Save the batch that led to an error, and return the error with the file and the last good checkpoint.

    The file has tensors, numbers and texts only; :func:`torch.load` reads it.

    Args:
        error: What the training step raised.
        batch: Inputs of the model.
        iteration: Iteration that failed.
        checkpointer: Where the training writes to.
    """
    suffix = f"_{comm.get_rank()}" if comm.get_world_size() > 1 else ""
    path = os.path.join(checkpointer.save_dir, f"{NAME}{suffix}.pth")
    with atomic_write(path, "wb") as file:
        torch.save({"iteration": iteration, "batch": [_plain(x) for x in batch]}, file)
    last = checkpointer.get_checkpoint_file() if checkpointer.has_checkpoint() else ""
    good = f"the last checkpoint, {last}, has finite weights" if last else "there is no checkpoint yet"
    return NonFiniteLossError(f"{error}; the batch is in {path}, and {good}")


def _plain(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample as tensors, numbers and texts; ground truth under its own names."""
    plain = {name: value for name, value in sample.items() if isinstance(value, (Tensor, int, float, str))}
    if "instances" in sample:
        for name, value in sample["instances"].get_fields().items():
            value = value.tensor if isinstance(value, (BitMasks, Boxes)) else getattr(value, "polygons", value)
            if isinstance(value, list):  # polygons of each object
                value = [[torch.as_tensor(polygon) for polygon in polygons] for polygons in value]
            plain[name] = value
    return plain
