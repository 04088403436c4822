"""Write files of torch.export."""

from __future__ import annotations

import torch

from ..runtime.metadata import KEY
from ..utils.files import atomic_write
from .target import Target


def write(target: Target) -> None:
    """Write a .pt2 file with its metadata.

    Raises:
        ConfigError: It cannot be written.
    """
    with atomic_write(target.path, "wb") as file:
        torch.export.save(target.program, file, extra_files={KEY: target.metadata.to_json()})
