"""What SOLO's networks compute, and the mask logits of chosen cells.

A level has S * S masks, far more than everything else together. No tensor holds them all: masks are computed for the
cells that training or decoding asks for.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch.nn.functional as F
from torch import Tensor

from ...ops.precision import at_least_float32


def double(x: Tensor) -> Tensor:
    """Return maps (N, C, Hi, Wi) at twice their size, bilinear."""
    return F.interpolate(x, (2 * x.shape[2], 2 * x.shape[3]), mode="bilinear", align_corners=False)


class CellMasks(Protocol):
    """The masks of one image or of a batch, from which those of some cells can be computed."""

    def logits(self, level: int, cells: Tensor) -> list[Tensor]:
        """Return the logits whose sigmoids, multiplied, are the mask probabilities of cells.

        Args:
            level: Index of the level.
            cells: (R,) int64, of a batch (N, R), row by row within the level.

        Returns:
            One tensor or two of (..., R, h, w), float32 or float64, at half the level's stride.
        """
        ...


class SOLOPredictions(NamedTuple):
    """What SOLO's networks compute for a batch.

    The mask of a cell is a 1x1 convolution of the level's features, upsampled. The convolution goes first here, at a
    quarter of the cost: the two commute, because the weights of an interpolation add up to 1.

    Attributes:
        class_logits: L x (N, K, S, S).
        mask_features: L x (N, C, Hi, Wi), at the level's stride.
        kernels: L x (S * S, C, 1, 1), parameters of the model: a kernel per cell.
        biases: L x (S * S,), parameters of the model.
    """

    class_logits: list[Tensor]
    mask_features: list[Tensor]
    kernels: list[Tensor]
    biases: list[Tensor]

    def map_size(self, level: int) -> tuple[int, int]:
        """Return the height and width of a level's masks: (T_h, T_w) over half the level's stride."""
        height, width = self.mask_features[level].shape[2:]
        return 2 * height, 2 * width

    def masks_of(self, image: int | slice) -> CellMasks:
        """Return the masks of one image, or of the images of a slice as a batch."""
        return _KernelMasks([at_least_float32(x[image]) for x in self.mask_features], self.kernels, self.biases)

    def mask_inputs(self, level: int) -> list[Tensor]:
        """Return all tensors that the masks of a level depend on."""
        return [self.mask_features[level], self.kernels[level], self.biases[level]]


class _KernelMasks(NamedTuple):
    """:class:`CellMasks` of a :class:`SOLOPredictions`; ``features`` are L x (..., C, Hi, Wi)."""

    features: list[Tensor]
    kernels: list[Tensor]
    biases: list[Tensor]

    def logits(self, level: int, cells: Tensor) -> list[Tensor]:
        features = self.features[level]
        kernels = self.kernels[level][cells].flatten(-3).to(features.dtype)
        biases = self.biases[level][cells][..., None].to(features.dtype)
        logits = (kernels @ features.flatten(-2) + biases).unflatten(-1, features.shape[-2:])
        return [double(logits) if logits.ndim == 4 else double(logits[None])[0]]


class DecoupledPredictions(NamedTuple):
    """What Decoupled SOLO's networks compute for a batch: the mask of a cell is that of its column times its row's.

    Attributes:
        class_logits: L x (N, K, S, S).
        column_logits: L x (N, S, h, w), at half the level's stride.
        row_logits: L x (N, S, h, w).
    """

    class_logits: list[Tensor]
    column_logits: list[Tensor]
    row_logits: list[Tensor]

    def map_size(self, level: int) -> tuple[int, int]:
        """Return the height and width of a level's masks: (T_h, T_w) over half the level's stride."""
        height, width = self.column_logits[level].shape[2:]
        return height, width

    def masks_of(self, image: int | slice) -> CellMasks:
        """Return the masks of one image, or of the images of a slice as a batch."""
        return _FactorMasks(*([at_least_float32(x[image]) for x in maps] for maps in self[1:]))

    def mask_inputs(self, level: int) -> list[Tensor]:
        """Return all tensors that the masks of a level depend on."""
        return [self.column_logits[level], self.row_logits[level]]


class _FactorMasks(NamedTuple):
    """:class:`CellMasks` of a :class:`DecoupledPredictions`; both are L x (..., S, h, w)."""

    columns: list[Tensor]
    rows: list[Tensor]

    def logits(self, level: int, cells: Tensor) -> list[Tensor]:
        columns, rows = self.columns[level], self.rows[level]
        side = columns.shape[-3]
        return [_take_maps(columns, cells % side), _take_maps(rows, cells.div(side, rounding_mode="floor"))]


def _take_maps(maps: Tensor, index: Tensor) -> Tensor:
    """Return the maps (..., R, h, w) at ``index`` (..., R) of (..., S, h, w)."""
    if index.ndim == 1:
        return maps[index]
    return maps.gather(1, index[:, :, None, None].expand(-1, -1, *maps.shape[2:]))


Predictions = SOLOPredictions | DecoupledPredictions
