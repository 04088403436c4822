from __future__ import annotations

import pytest
import torch

from centermask_solo.ops.topk import padded_topk, stable_topk


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("k", [0, 1, 5, 40, 60])
def test_of_equal_values_the_first(k, dtype):
    values = (torch.randint(0, 6, (3, 40), generator=torch.Generator().manual_seed(0)) / 7).to(dtype)
    expected = values.sort(dim=1, descending=True, stable=True)
    top, columns = stable_topk(values, k)
    assert torch.equal(top, expected.values[:, :k])
    assert torch.equal(columns, expected.indices[:, :k])


def test_all_sizes_of_floats_rank_right():
    values = torch.tensor([[1e-42, 0.0, 3e38, 1e-38, 1.0, torch.inf]])  # the first is denormal
    assert stable_topk(values, 6)[1].tolist() == [[5, 2, 4, 3, 0, 1]]


def test_of_nothing():
    assert stable_topk(torch.zeros(2, 0), 3)[0].shape == (2, 0)
    assert stable_topk(torch.zeros(0, 4), 3)[1].shape == (0, 3)


@pytest.mark.parametrize("n", [300, 400_000])
def test_neighbors_among_floats_are_told_apart(n):
    """However many columns there are: a higher value in the last column beats the next lower one in the first."""
    for value in (1e-45, 1e-38, 0.7, 1.0, 3e38):
        low = torch.tensor(value)
        values = torch.full((1, n), low)
        values[0, -1] = torch.nextafter(low, torch.tensor(torch.inf))
        assert stable_topk(values, 3)[1].tolist() == [[n - 1, 0, 1]]


def test_export():
    class TopK(torch.nn.Module):
        def forward(self, values):
            return stable_topk(values, 5)

    values = torch.randint(0, 6, (3, 40), generator=torch.Generator().manual_seed(0)) / 7
    sizes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("columns", min=10)}
    exported = torch.export.export(TopK(), (values[:2, :30].contiguous(),), dynamic_shapes=(sizes,)).module()
    for found, expected in zip(exported(values), stable_topk(values, 5), strict=True):
        assert torch.equal(found, expected)


def test_padding_gives_a_constant_number():
    values = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.0, 0.25]])
    top, columns = padded_topk(values, 5)
    assert top.tolist() == [[0.5, 0.5, 0, 0, 0], [0.25, 0, 0, 0, 0]]
    assert columns.tolist() == [[0, 2, 0, 0, 0], [2, 0, 0, 0, 0]]
    assert padded_topk(values, 1)[1].tolist() == [[0], [2]]
