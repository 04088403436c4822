"""From kept kernels, or other sources of mask probabilities, to masks of the output size, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...ops.chunks import rows_per_chunk
from ...ops.masks import axis_resize, resize_and_threshold_
from ...ops.precision import in_float32

# From cells (R,) int64, or what else describes objects, to their mask probabilities (R, P) float32, and to which of
# these are finite, (R,) bool.
MaskScores = Callable[[Tensor], tuple[Tensor, Tensor]]


@torch.no_grad()
def decode_full_masks(
    kernels: Tensor,
    mask_features: Tensor,
    *,
    stride: int,
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    mask_thresh: float,
) -> Tensor:
    """Return the masks of ``kernels`` at ``output_size``, (M, H, W) bool: probabilities are resized, then thresholded.

    Args:
        kernels: (M, E).
        mask_features: (E, T_h / stride, T_w / stride).
        stride: Input pixels per pixel of the mask features.
        image_size: Height and width of the image in the network input, without padding.
        output_size: H and W.
        mask_thresh: Minimum probability of a mask's pixels, exclusive.

    Source: the published code, which upsamples by ``stride``, crops to ``image_size`` and resizes to ``output_size``.
    Differs: AdelaiDet upsamples by ceil(h / Hf), less than ``stride`` for an image much smaller than its batch.
    """
    with in_float32(mask_features):
        features = mask_features.float().flatten(1)
        return full_masks(
            kernels.float(),
            lambda chunk: mask_probabilities(chunk, features),
            (mask_features.shape[1], mask_features.shape[2]),
            stride=stride,
            image_size=image_size,
            output_size=output_size,
            mask_thresh=mask_thresh,
        )


def full_masks(
    objects: Tensor,
    mask_scores: MaskScores,
    size: tuple[int, int],
    *,
    stride: int,
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    mask_thresh: float,
) -> Tensor:
    """Return masks at ``output_size``, (M, H, W) bool, as :func:`decode_full_masks` does, from any probabilities.

    Args:
        objects: (M, ...), what ``mask_scores`` takes, a chunk at a time.
        mask_scores: Returns the mask probabilities of rows of ``objects``.
        size: Height and width of these masks.
        stride: Input pixels per pixel of them.
        image_size: Height and width of the image in the network input, without padding.
        output_size: H and W.
        mask_thresh: Minimum probability of a mask's pixels, exclusive.
    """
    rows, columns = (
        axis_resize(n, out, objects.device, scale=stride, crop=crop)
        for n, out, crop in zip(size, output_size, image_size, strict=True)
    )
    masks = torch.zeros(len(objects), *output_size, dtype=torch.bool, device=objects.device)
    step = rows_per_chunk(4 * size[0] * size[1])
    for chunk, out in zip(objects.split(step), masks.split(step), strict=True):
        resize_and_threshold_(out, mask_scores(chunk)[0].unflatten(1, size), rows, columns, mask_thresh)
    return masks


def mask_probabilities(kernels: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mask probabilities and which rows are finite.

    Args:
        kernels: (..., R, E) float32.
        features: (..., E, P) float32.

    Returns:
        (..., R, P) float32, and (..., R) bool.
    """
    logits = kernels @ features
    finite = logits.sum(dim=-1).isfinite()
    return logits.sigmoid_(), finite
