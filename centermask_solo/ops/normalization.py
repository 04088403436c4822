"""Normalization of feature maps with statistics that are exact to rounding in any memory format."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .precision import at_least_float32


def normalize(
    x: Tensor, weight: Tensor, bias: Tensor, *, eps: float, groups: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``x`` normalized, and the statistics that it was normalized with: batch norm, or group norm.

    The sums run over the pixels of each map by PyTorch's pairwise reductions, of values from which the mean is
    subtracted. PyTorch's own kernels add up channels-last maps on a CPU one after the other, and group norm subtracts
    the squared mean from the mean square: see ``docs/decisions/channels_last_norms.md``.

    Args:
        x: (N, C, H, W), not empty; statistics are computed in at least float32.
        weight: (C,), multiplies the normalized values.
        bias: (C,), added to them.
        eps: Added to the variance.
        groups: Number of groups of channels; None for batch norm.

    Returns:
        The result in the type and memory format of ``x``; mean and biased variance, without gradient: (1, C, 1, 1) for
        batch norm, (N, C, 1, 1) for group norm, equal within a group.
    """
    result: tuple[Tensor, Tensor, Tensor] = _Normalize.apply(x, weight, bias, eps, groups)
    return result


class _Normalize(torch.autograd.Function):
    """Stores no more than PyTorch's norms do: the input and the statistics."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, groups: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = _share(_mean(at_least_float32(x)), groups)
        centered = at_least_float32(x) - mean
        rest = _share(_mean(centered), groups)  # what rounding left of the mean
        var = _share(_mean(centered.square()), groups) - rest.square()
        inverse = (var + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, rest, inverse)
        ctx.groups = groups
        scale = weight.view(1, -1, 1, 1) * inverse
        y = torch.addcmul(bias.view(1, -1, 1, 1) - rest * scale, centered, scale).to(x.dtype)
        mean = mean + rest
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, rest, inverse = ctx.saved_tensors
        grad, centered = at_least_float32(grad), at_least_float32(x) - mean
        pixels = x.shape[2] * x.shape[3]
        grad_mean = _mean(grad)  # (N, C, 1, 1)
        product_mean = (_mean(grad * centered) - rest * grad_mean) * inverse  # of gradient and normalized value
        # grad_x = inverse * (w * grad - mean(w * grad) - normalized * mean(w * grad * normalized))
        w = weight.view(1, -1, 1, 1)
        slope = -_share(w * product_mean, ctx.groups) * inverse.square()
        offset = -_share(w * grad_mean, ctx.groups) * inverse - rest * slope
        grad_x = torch.addcmul(offset, centered, slope).addcmul_(grad, w * inverse).to(x.dtype)
        return grad_x, product_mean.sum((0, 2, 3)) * pixels, grad_mean.sum((0, 2, 3)) * pixels, None, None


def _mean(x: Tensor) -> Tensor:
    """Return the mean of each map, (N, C, 1, 1)."""
    return x.mean((2, 3), keepdim=True)


def _share(means: Tensor, groups: int | None) -> Tensor:
    """Return the means (N, C, 1, 1) averaged over the maps that share statistics: of the batch, or of a group."""
    if groups is None:
        return means.mean(0, keepdim=True)
    of_groups = means.unflatten(1, (groups, -1))
    return of_groups.mean(2, keepdim=True).expand_as(of_groups).flatten(1, 2)
