"""Bilinear resizing as a runtime computes it."""

import pytest
import torch
import torch.nn.functional as F

from centermask_solo.ops.resize import _sources, resize_bilinear


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (40, 61), (197, 131)])
@pytest.mark.parametrize("size", [(1, 1), (6, 5), (40, 61), (150, 149)])
def test_it_is_what_pytorch_interpolates(shape, size):
    pixels = 255 * torch.rand(2, 3, *shape)
    expected = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize_bilinear(pixels, size), expected, rtol=0, atol=2e-3)


def test_positions_are_exact_to_the_last_bits_in_float64():
    """Steps of 255, which an error of a position multiplies."""
    pixels = 255 * (torch.arange(131) % 2).float().expand(1, 1, 197, 131)
    expected = F.interpolate(pixels.double(), (550, 550), mode="bilinear", align_corners=False)
    error = (resize_bilinear(pixels, (550, 550)) - expected).abs().max()
    assert error <= (F.interpolate(pixels, (550, 550), mode="bilinear", align_corners=False) - expected).abs().max()


@pytest.mark.parametrize("output_size", [400, 550, 700])
def test_positions_are_rounded_once(output_size):
    """As where a processor multiplies and adds at once, so that it does not matter which ones do."""
    centers = torch.arange(output_size, dtype=torch.float64) + 0.5
    for size in range(32, 1025):
        scale = torch.tensor(size, dtype=torch.float32) / output_size
        low, _, share = _sources(size, output_size, torch.device("cpu"))
        expected = (scale.double() * centers - 0.5).float().clamp(min=0)
        assert torch.equal(low + share, expected), size
