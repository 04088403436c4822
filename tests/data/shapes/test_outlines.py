"""Outlines are signed distances within a circle."""

import numpy as np
import pytest

from centermask_solo.data.shapes.outlines import OUTLINES, REACH


@pytest.mark.parametrize("name", OUTLINES)
@pytest.mark.parametrize("seed", range(20))
def test_outline_is_a_signed_distance_within_the_circle(name, seed):
    outline = OUTLINES[name](np.random.default_rng(seed))
    rows, columns = np.mgrid[-1.5:1.5:121j, -1.5:1.5:121j]
    distance = outline(columns, rows)
    inside = distance <= 0
    assert inside.sum() > 300  # of 5,027 in the whole circle
    assert (np.hypot(columns, rows)[inside] <= REACH).all()
    # Changes by at most the step, 0.025 (blends of discs may exceed it slightly)
    assert np.abs(np.diff(distance, axis=0)).max() <= 0.025 * 1.3
    assert np.abs(np.diff(distance, axis=1)).max() <= 0.025 * 1.3


@pytest.mark.parametrize(("name", "holes"), [("ring", True), ("frame", True), ("disc", False), ("polygon", False)])
def test_holes(name, holes):
    middle = OUTLINES[name](np.random.default_rng(0))(np.zeros((1, 1)), np.zeros((1, 1)))
    assert (middle.item() > 0) == holes
