"""Run files of torch.export, which need PyTorch but not Detectron2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchvision  # noqa: F401  (registers the operator of deformable convolutions)
from numpy.typing import NDArray

from ..ops import fixed_nms  # noqa: F401  (registers the operator of NMS)
from ..utils.errors import ConfigError
from .metadata import KEY
from .session import Arrays, RunOptions


class PT2Session:
    """A :class:`.session.Session` of a .pt2 file."""

    def __init__(self, path: str, options: RunOptions) -> None:
        """
        Args:
            path: The file.
            options: ``providers`` is the device that it was exported for, "cpu"; ``threads`` applies to the process.

        Raises:
            ConfigError: Another device is asked for.
        """
        if options.providers not in ((), ("cpu",)):
            raise ConfigError(f"a file of torch.export runs on the CPU, not on {options.providers!r}")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        extra = {KEY: ""}
        program = torch.export.load(path, extra_files=extra)
        self.description: str | None = extra[KEY] or None
        self._module = program.module()

    @torch.no_grad()
    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name."""
        found = self._module(**{name: torch.from_numpy(x) for name, x in feeds.items()})
        return {name: x.numpy() for name, x in found.items()}
