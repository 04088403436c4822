from __future__ import annotations

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from centermask_solo.ops.polygons import count_polygon_pixels, crossing_chunks, draw_lines, fill_polygons

PLACES = {"anywhere": 0, "pixels": 1, "halves": 2, "subpixels": 5, "tenths": 10}  # fractions of a pixel; 0 for any


def random_polygons(seed, fraction, count=60):
    """Polygons of any shape, many of which cross themselves or leave the canvas."""
    rng = np.random.default_rng(seed)
    polygons = []
    for i in range(count):
        points = rng.normal(size=(rng.integers(3, 12), 2)) * (1, 5, 30, 300, 30_000)[i % 5] + rng.uniform(-20, 60, 2)
        polygons.append(np.round(points * fraction) / fraction if fraction else points)
    return polygons


def lines_of(polygons, sizes):
    starts = np.concatenate(polygons)
    ends = np.concatenate([np.roll(p, -1, axis=0) for p in polygons])
    which = torch.arange(len(polygons)).repeat_interleave(torch.tensor([len(p) for p in polygons]))
    return draw_lines(torch.from_numpy(starts), torch.from_numpy(ends), which, torch.tensor(sizes))


def chunks_of(polygons, sizes):
    lines = lines_of(polygons, sizes)
    numbers = lines.crossings_per_polygon()
    return crossing_chunks(lines, [len(p) for p in polygons], numbers, numbers.tolist(), polygon_bytes=10)


def drawn(polygon, height, width):
    return torch.from_numpy(mask_util.decode(mask_util.frPyObjects([polygon.reshape(-1)], height, width))[..., 0] > 0)


@pytest.mark.parametrize("size", [(28, 28), (1, 40), (37, 1), (50, 13)])
@pytest.mark.parametrize("place", PLACES)
def test_pixels_are_pycocotools(place, size, monkeypatch):
    polygons = random_polygons(len(place), PLACES[place])
    expected = torch.stack([drawn(p, *size) for p in polygons])
    assert expected.any() or size[1] == 1
    for chunk_bytes in (2**25, 20_000, 1):
        monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
        got = torch.cat([fill_polygons(x, *size) for _, x in chunks_of(polygons, [size] * len(polygons))])
        assert torch.equal(got, expected)


@pytest.mark.parametrize("place", PLACES)
def test_numbers_of_pixels_are_pycocotools(place, monkeypatch):
    polygons = random_polygons(7, PLACES[place])
    sizes = np.random.default_rng(0).integers(1, 90, (len(polygons), 2))
    expected = [int(drawn(p, *size).sum()) for p, size in zip(polygons, sizes, strict=True)]
    for chunk_bytes in (2**25, 20_000, 1):
        monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
        got = [
            count_polygon_pixels(x, torch.from_numpy(sizes[which].prod(1))) for which, x in chunks_of(polygons, sizes)
        ]
        assert (len(got) > 1) == (chunk_bytes < 2**25)
        assert torch.cat(got).tolist() == expected


def test_a_polygon_that_leaves_its_canvas_at_the_bottom():
    """Its last run has no end."""
    triangle = np.array([[1.0, 1.0], [9.0, 1.0], [9.0, 30.0]])
    (_, crossings), *rest = chunks_of([triangle], [(12, 9)])
    assert not rest
    assert crossings.positions.max() == 12 * 9
    assert count_polygon_pixels(crossings, torch.tensor([108])).item() == drawn(triangle, 12, 9).sum()


def test_no_polygons():
    lines = draw_lines(*torch.zeros(2, 0, 2).double(), torch.zeros(0).long(), torch.zeros(0, 2).long())
    assert list(crossing_chunks(lines, [], lines.crossings_per_polygon(), [], 1)) == []
