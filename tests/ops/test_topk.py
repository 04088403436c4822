from __future__ import annotations

import pytest
import torch

from centermask_solo.ops.topk import stable_topk


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


def test_neighbors_are_not_confused_with_ties():
    """In a row of many columns, each value is reduced by almost its distance to the next one."""
    for base in (2.0**-149, 2.0**-126, 0.05, 1.0, 2 - 2.0**-23):
        low = torch.tensor(base)
        high = low.nextafter(torch.tensor(torch.inf))
        values = low.repeat(300_000)
        values[[7, -1]], values[9] = high, 0.0
        top, columns = stable_topk(values, 4)
        assert columns.tolist() == [7, len(values) - 1, 0, 1]
        assert top.tolist() == [high, high, low, low]
        assert stable_topk(values[8:12], 4)[1].tolist() == [0, 2, 3, 1]
