import torch

from centermask_solo.ops.chunks import rows_per_chunk
from centermask_solo.ops.levels import flatten_levels, split_levels


def test_levels_are_flattened_and_split():
    maps = [torch.arange(2 * 3 * 2 * 4.0).view(2, 3, 2, 4), torch.arange(2 * 3 * 1 * 2.0).view(2, 3, 1, 2)]
    rows = flatten_levels(maps)
    assert rows.shape == (2, 10, 3)
    assert torch.equal(rows[1, 5], maps[0][1, :, 1, 1])  # row 1, column 1 of the first level
    assert torch.equal(rows[0, 9], maps[1][0, :, 0, 1])
    first, second = split_levels(rows, [(2, 4), (1, 2)])
    assert torch.equal(first, rows[:, :8]) and torch.equal(second, rows[:, 8:])


def test_rows_per_chunk(monkeypatch):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 100)
    assert rows_per_chunk(30) == 3
    assert rows_per_chunk(1000) == 1
    assert rows_per_chunk(0) == 100
