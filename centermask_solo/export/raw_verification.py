"""Compare the tensors of the variant raw of an exported file with those of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tabulate import tabulate

from ..data.pixels import Pixels
from ..runtime.resizing import make_batches
from ..runtime.session import Arrays, open_file
from .graph import ExportedGraph
from .verification import HALF_FACTOR

TOLERANCE = 1e-3  # largest difference of a tensor's values, relative to the largest of them


@dataclass(frozen=True)
class TensorDifference:
    """How far a tensor is apart.

    Attributes:
        name: Its name.
        shape: Its shape.
        largest: Its largest absolute value in PyTorch.
        difference: Largest difference of a value; infinite if the shapes differ.
    """

    name: str
    shape: tuple[int, ...]
    largest: float
    difference: float


@dataclass(frozen=True)
class RawVerification:
    """The comparison of what the networks compute, for one batch.

    Attributes:
        differences: Of each tensor.
        tolerance: Largest difference, relative to the largest value, that is in bounds.
    """

    differences: list[TensorDifference]
    tolerance: float

    @property
    def faults(self) -> list[str]:
        """What is out of bounds; empty if nothing is."""
        return [
            f"{x.name} differs by {x.difference:.2g} of {x.largest:.2g}, more than {self.tolerance:g} of it"
            for x in self.differences
            if not x.difference <= self.tolerance * x.largest
        ]

    @property
    def num_compared(self) -> int:
        """Number of tensors that were compared."""
        return len(self.differences)

    def table(self) -> str:
        """Return the differences as a table for people."""
        rows = [
            (x.name, " x ".join(map(str, x.shape)), f"{x.largest:.2g}", f"{x.difference:.1e}") for x in self.differences
        ]
        headers = ("tensor", "shape", "largest", "difference")
        return tabulate(rows, headers, tablefmt="plain", disable_numparse=True)


@torch.no_grad()
def verify_raw(graph: ExportedGraph, path: str, images: Sequence[tuple[str, Pixels]]) -> RawVerification:
    """Return the comparison of an exported file of the variant raw with its graph.

    Args:
        graph: What was exported.
        path: The file.
        images: Names and images, (H, W, 3) uint8, resized and in the channel order of the model, of which one batch is
            compared.
    """
    session, metadata = open_file(path)
    batch = make_batches([image for _, image in images], metadata.input)[0]
    feeds: Arrays = {"images": batch.images}
    if metadata.input.image_sizes:
        feeds["image_sizes"] = batch.sizes
    found = session.run(feeds)
    expected = graph(**{name: torch.from_numpy(x) for name, x in feeds.items()})
    differences = []
    for name, tensor in expected.items():
        ours, theirs = tensor.numpy(), found[metadata.outputs[name]]
        apart = np.abs(ours - theirs).max(initial=0) if ours.shape == theirs.shape else np.inf
        differences.append(TensorDifference(name, ours.shape, float(np.abs(ours).max(initial=0)), float(apart)))
    return RawVerification(differences, TOLERANCE * (HALF_FACTOR if metadata.half else 1))
