"""Polygons and RLEs are measured as pycocotools decodes them, and malformed ones are found before it sees them."""

import math

import numpy as np
import pytest
from pycocotools import mask as rle

from centermask_solo.data.validation.closer import crosses_itself
from centermask_solo.data.validation.geometry import measure_polygons, measure_runs


def random_masks(count, height=37, width=23):
    rng = np.random.default_rng(0)
    masks = [rng.random((height, width)) < p for p in np.linspace(0.0, 1.0, count - 2)]
    blob = np.zeros((height, width), dtype=bool)
    blob[5:20, 3:9] = True
    return [*masks, blob, ~blob]


def compress(mask):
    return rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def to_runs(mask):
    pixels = mask.T.ravel()
    changes = np.flatnonzero(np.diff(pixels.astype(int), prepend=0))
    return np.diff([0, *changes, len(pixels)]).tolist()


@pytest.mark.parametrize("encode", [compress, to_runs])
def test_runs_have_the_area_and_the_box_of_their_pixels(encode):
    masks = random_masks(20)
    runs = measure_runs([encode(x) for x in masks], [37] * len(masks))
    assert runs.decodable.all()
    assert (runs.totals == 37 * 23).all()
    for mask, area, bounds in zip(masks, runs.areas, runs.bounds, strict=True):
        assert area == mask.sum()
        y, x = np.nonzero(mask)
        expected = [x.min(), y.min(), x.max() + 1, y.max() + 1] if area else [0, 0, 0, 0]
        assert bounds.tolist() == expected


def test_large_counts_of_compressed_runs():
    """Numbers of several characters, with positive and negative differences."""
    counts = [5, 70_000, 3, 1, 900_000, 2, 40, 123_456]
    total = sum(counts)
    code = rle.frPyObjects({"size": [total, 1], "counts": counts}, total, 1)["counts"].decode()
    runs = measure_runs([code, counts], [total] * 2)
    assert runs.totals.tolist() == [total] * 2
    assert runs.areas.tolist() == [sum(counts[1::2])] * 2


@pytest.mark.parametrize(
    "counts",
    [
        "",
        "b'Zb0l0'",
        "586 28 44",
        "Zb0l",
        "pppp",
        "é0",
        "o" * 20 + "0",
        [],
        [1, "a"],
        [1.0, 2.0],
        [[1, 2], [3, 4]],
        [[1], [2, 3]],
        [5, -1, 3],
        [2**70],
        [None],
        None,
        7,
        {"a": 1},
        [math.nan, 1],
    ],
)
def test_malformed_runs_are_not_decodable(counts):
    runs = measure_runs(["04\\U1", counts, [4, 5]], [30] * 3)
    assert runs.decodable.tolist() == [True, False, True]
    assert runs.totals[[0, 2]].tolist() == [1200, 9]


def test_nothing_to_measure():
    assert len(measure_runs([], []).areas) == 0
    assert len(measure_polygons([]).areas) == 0


def test_polygons():
    polygons = [[0, 0, 4, 0, 4, 3], [1.5, 1, 1.5, 9, 7.5, 9, 7.5, 1], [1, 1, 5, 5, 9, 9], [0, 0, math.nan, 1, 2, 2]]
    found = measure_polygons(polygons)
    assert found.numbers.all()
    assert found.finite.tolist() == [True, True, True, False]
    assert found.areas[:3].tolist() == [6, 48, 0]
    assert found.bounds[:3].tolist() == [[0, 0, 4, 3], [1.5, 1, 7.5, 9], [1, 1, 9, 9]]


@pytest.mark.parametrize("value", ["3", None, [1], {"a": 1}, 10**400])
def test_polygons_of_other_things_than_numbers(value):
    found = measure_polygons([[0, 0, 4, 0, 4, 3], [0, 0, 4, 0, 4, value], [0, 0, 4, 0, 4, math.inf]])
    assert found.numbers.tolist() == [True, False, True]
    assert found.areas[0] == 6
    assert found.finite.tolist()[::2] == [True, False]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[0, 0], [20, 24], [20, 0], [0, 16]], True),  # a bow tie
        ([[0, 0], [20, 0], [20, 20], [0, 20]], False),
        ([[0, 0], [20, 0], [20, 20], [10, 0.01], [0, 20]], False),  # touches nothing
        ([[0, 0], [20, 0], [20, 20], [10, -0.01], [0, 20]], False),  # crosses by a hair's breadth
        ([[0, 0], [20, 0], [20, 1], [0, 1]], False),  # thin
        ([[0, 0], [20, 20], [20, 20.5], [0, 0.5]], False),
        ([[0, 0], [20, 0]], False),
    ],
)
def test_polygons_that_cross_themselves(points, expected):
    assert crosses_itself(np.array(points, dtype=float)) == expected


def test_long_polygons_are_checked_in_pieces(monkeypatch):
    angles = np.linspace(0, 4 * np.pi, 801)[:-1]  # a figure of eight, of unequal parts
    eight = np.stack([np.sin(angles / 2) * (1 + (np.sin(angles / 2) > 0)), np.sin(angles)], axis=1) * 50
    circle = np.stack([np.cos(angles / 2), np.sin(angles / 2)], axis=1) * 50
    monkeypatch.setattr("centermask_solo.data.validation.closer.MAX_PAIRS", 5000)
    assert crosses_itself(eight) and not crosses_itself(circle)
