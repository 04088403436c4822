"""From a graph to a program of torch.export, whose sizes are free or fixed."""

from __future__ import annotations

import torch
from torch.export import Dim, ExportedProgram

from ..utils.memory import without_garbage_collection
from .graph import ExportedGraph

SAMPLE_BATCH = 2  # images; sizes of 1 would be taken for constants
SAMPLE_SIZE = (
    260,
    324,
)  # height and width, which differ, are no multiples of any stride, and leave two cells at stride 128
SIZE_NAMES = {0: "N", 1: "H", 2: "W"}  # of the dimensions of ``images`` that are free


@without_garbage_collection()
def trace(graph: ExportedGraph, size: tuple[int, int] | None, with_sizes: bool) -> ExportedProgram:
    """Return the program of a graph, for batches of any number.

    Args:
        graph: The graph, on the CPU, in evaluation mode.
        size: (height, width) of images; None if they are free.
        with_sizes: Whether it takes ``image_sizes``.
    """
    height, width = size or SAMPLE_SIZE
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (SAMPLE_BATCH, height, width, 3), dtype=torch.uint8, generator=generator)
    batch = Dim("N", min=1)
    # Not named: names also forbid guards on the strides of dimensions of size 1, which mean nothing.
    free = {1: Dim.DYNAMIC, 2: Dim.DYNAMIC} if size is None else {}
    inputs: dict[str, torch.Tensor] = {"images": images}
    shapes: dict[str, dict[int, object]] = {"images": {0: batch, **free}}
    if with_sizes:
        inputs["image_sizes"] = torch.tensor([[height, width], [height - 9, width - 17]])
        shapes["image_sizes"] = {0: batch}
    with torch.no_grad():
        return torch.export.export(graph, (), inputs, dynamic_shapes=shapes, strict=False)


def symbols(program: ExportedProgram) -> dict[str, str]:
    """Return the names of the free sizes of ``images``, "N", "H" and "W", by their symbols in the program."""
    images = _placeholder(program)
    return {str(images.shape[i]): name for i, name in SIZE_NAMES.items() if not isinstance(images.shape[i], int)}


def output_names(program: ExportedProgram) -> list[str]:
    """Return the names of the outputs of a program, in order."""
    spec = program.call_spec.out_spec
    assert spec is not None
    return list(spec.unflatten([None] * spec.num_leaves))


def min_size(program: ExportedProgram) -> tuple[int, int]:
    """Return the smallest height and width that a program takes, pixels."""
    images = _placeholder(program)
    height, width = (_least(program, images.shape[i]) for i in (1, 2))
    return height, width


def _least(program: ExportedProgram, n: int | torch.SymInt) -> int:
    if isinstance(n, int):
        return n
    found = program.range_constraints.get(n.node.expr)
    return int(found.lower) if found is not None else 1


def _placeholder(program: ExportedProgram) -> torch.Tensor:
    nodes = (node for node in program.graph.nodes if node.op == "placeholder" and node.name == "images")
    return next(nodes).meta["val"]
