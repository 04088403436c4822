import pytest
import torch

from centermask_solo.ops.grids import append_coordinates, coordinate_channels


def test_x_comes_first_and_both_ends_are_included():
    x, y = coordinate_channels(2, 3, device=torch.device("cpu"), dtype=torch.float64)
    assert x.tolist() == [[-1, 0, 1], [-1, 0, 1]]
    assert y.tolist() == [[-1, -1, -1], [1, 1, 1]]


def test_one_pixel_is_at_the_start():
    assert coordinate_channels(1, 1, device=torch.device("cpu"), dtype=torch.float32).tolist() == [[[-1]], [[-1]]]


@pytest.mark.parametrize("size", [2, 3, 7, 8, 40, 167, 336])
def test_coordinates_are_those_of_linspace(size):
    """To the last bit but one: how ``linspace`` rounds depends on the vector width of the processor."""
    cpu = torch.device("cpu")
    x, _ = coordinate_channels(1, size, device=cpu, dtype=torch.float32)
    torch.testing.assert_close(x[0], torch.linspace(-1, 1, size), rtol=0, atol=2**-24)
    assert torch.equal(x[0, : size // 2], -x[0].flip(0)[: size // 2])
    half, _ = coordinate_channels(1, size, device=cpu, dtype=torch.bfloat16)
    assert torch.equal(half, x.bfloat16())


def test_coordinates_trace_with_any_size():
    class Append(torch.nn.Module):
        def forward(self, x):
            return append_coordinates(x)

    sizes = dict.fromkeys(range(4), torch.export.Dim.DYNAMIC)
    program = torch.export.export(Append(), (torch.zeros(2, 3, 4, 6),), dynamic_shapes=(sizes,)).module()
    other = torch.randn(3, 3, 9, 5)
    assert torch.equal(program(other), append_coordinates(other))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_coordinates_follow_the_features(dtype):
    features = torch.randn(2, 5, 4, 6, dtype=dtype)
    with_coordinates = append_coordinates(features)
    assert with_coordinates.shape == (2, 7, 4, 6)
    assert with_coordinates.dtype == dtype
    assert torch.equal(with_coordinates[:, :5], features)
    expected = coordinate_channels(4, 6, device=features.device, dtype=dtype)
    assert torch.equal(with_coordinates[:, 5:], expected.expand(2, -1, -1, -1))
