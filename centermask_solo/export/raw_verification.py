"""Compare the tensors of the variant raw of an exported file with those of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from ..data.pixels import Pixels
from ..runtime.resizing import make_batches
from ..runtime.session import Arrays, open_file
from .graph import ExportedGraph
from .verification import rounding_of

TOLERANCE = 1e-3  # largest difference of a tensor's values, relative to the largest of them
ROUNDED_TOLERANCE = 0.5  # the same where weights are rounded, which has a loss to state: more is a defect
BATCH_SIZE = 2  # images of one run, if they have one size


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
    """The comparison of what the networks compute.

    Attributes:
        differences: Of each tensor, the largest of all images; the shape is that of the first batch.
        tolerance: Largest difference, relative to the largest value, that is in bounds.
        rounding: What the file rounds its weights to, in words; or empty.
    """

    differences: list[TensorDifference]
    tolerance: float
    rounding: str = ""

    @property
    def faults(self) -> list[str]:
        """What is out of bounds; empty if nothing is."""
        return [
            f"{x.name} differs by {x.difference:.2g} of {x.largest:.2g}, more than {self.tolerance:g} of it"
            for x in self.differences
            if not x.difference <= self.tolerance * x.largest
        ]

    def loss(self) -> str:
        """Return what rounding costs, in words."""
        most = max((x.difference / x.largest for x in self.differences if x.largest), default=0.0)
        return f"{self.rounding}: the tensors differ by at most {most:.1%} of their largest values"

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
        images: Names and images, (H, W, 3) uint8, resized and in the channel order of the model.
    """
    session, metadata = open_file(path)
    differences: dict[str, TensorDifference] = {}
    pixels = [image for _, image in images]
    pairs = (pixels[i : i + BATCH_SIZE] for i in range(0, len(pixels), BATCH_SIZE))
    for batch in (x for pair in pairs for x in make_batches(pair, metadata.input)):
        feeds: Arrays = {"images": batch.images}
        if metadata.input.image_sizes:
            feeds["image_sizes"] = batch.sizes
        found = session.run(feeds)
        for name, tensor in graph(**{name: torch.from_numpy(x) for name, x in feeds.items()}).items():
            new = _difference(name, tensor.numpy(), found[metadata.outputs[name]])
            old = differences.get(name, new)
            both = np.array([(x.largest, x.difference) for x in (old, new)])
            differences[name] = TensorDifference(name, old.shape, *both.max(axis=0).tolist())  # nan, if one is
    rounding = rounding_of(metadata)
    return RawVerification(list(differences.values()), ROUNDED_TOLERANCE if rounding else TOLERANCE, rounding)


def _difference(name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> TensorDifference:
    apart = np.abs(ours - theirs).max(initial=0) if ours.shape == theirs.shape else np.inf
    return TensorDifference(name, ours.shape, float(np.abs(ours).max(initial=0)), float(apart))
