"""Run files of torch.export, which need PyTorch but not Detectron2."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torchvision  # noqa: F401  (registers the operator of deformable convolutions)
from numpy.typing import NDArray
from torch.utils._pytree import TreeSpec

from ..ops import fixed_nms  # noqa: F401  (registers the operator of NMS)
from ..utils.errors import ConfigError, WeightsError
from .metadata import KEY
from .session import Arrays, RunOptions, Sizes


class PT2Session:
    """A :class:`.session.Session` of a .pt2 file."""

    def __init__(self, path: str, options: RunOptions) -> None:
        """
        Args:
            path: The file.
            options: ``providers`` is the device that it was exported for, "cpu"; ``threads`` applies to the process.

        Raises:
            ConfigError: Another device is asked for.
            WeightsError: A part of the file has another checksum than its archive says.
        """
        if options.providers not in ((), ("cpu",)):
            asked = ", ".join(map(str, options.providers))
            raise ConfigError(f"a file of torch.export runs on the CPU, not on {asked}")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        with zipfile.ZipFile(path) as archive:  # PyTorch computes with what is damaged
            if archive.testzip() is not None:
                raise WeightsError(f"{path} is damaged or was changed after its export: export it again")
        extra = {KEY: ""}
        with _quiet():
            program = torch.export.load(path, extra_files=extra)
        self.description = extra[KEY] or None
        self.inputs = _inputs(program)
        names = _structured(program.call_spec.out_spec, program.graph_signature.user_outputs)
        self.outputs: dict[str, Sizes] = dict.fromkeys(names, ())
        self._module = program.module()

    @torch.no_grad()
    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name."""
        found = self._module(**{name: torch.from_numpy(x) for name, x in feeds.items()})
        return {name: x.numpy() for name, x in found.items()}


def _inputs(program: torch.export.ExportedProgram) -> dict[str, Sizes]:
    """Return the sizes of the inputs by their names; None where a size is free."""
    nodes = {x.name: x.meta["val"] for x in program.graph.nodes if x.op == "placeholder"}
    _, names = _structured(program.call_spec.in_spec, program.graph_signature.user_inputs)
    return {name: tuple(n if isinstance(n, int) else None for n in nodes[x].shape) for name, x in names.items()}


def _structured(spec: TreeSpec | None, names: Iterable[Any]) -> Any:
    """Return the names of nodes in the structure of a program's inputs or outputs."""
    assert spec is not None
    return spec.unflatten(list(names))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the screen the traceback that PyTorch logs before it raises an error."""
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
