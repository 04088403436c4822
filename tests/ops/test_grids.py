import pytest
import torch

from centermask_solo.ops.grids import append_coordinates, coordinate_channels


def test_x_comes_first_and_both_ends_are_included():
    x, y = coordinate_channels(2, 3, device=torch.device("cpu"), dtype=torch.float64)
    assert x.tolist() == [[-1, 0, 1], [-1, 0, 1]]
    assert y.tolist() == [[-1, -1, -1], [1, 1, 1]]


def test_one_pixel_is_at_the_start():
    assert coordinate_channels(1, 1, device=torch.device("cpu"), dtype=torch.float32).tolist() == [[[-1]], [[-1]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_coordinates_follow_the_features(dtype):
    features = torch.randn(2, 5, 4, 6, dtype=dtype)
    with_coordinates = append_coordinates(features)
    assert with_coordinates.shape == (2, 7, 4, 6)
    assert with_coordinates.dtype == dtype
    assert torch.equal(with_coordinates[:, :5], features)
    expected = coordinate_channels(4, 6, device=features.device, dtype=dtype)
    assert torch.equal(with_coordinates[:, 5:], expected.expand(2, -1, -1, -1))
