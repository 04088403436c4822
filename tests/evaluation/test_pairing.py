"""Pairs of detections, from similarities written by hand."""

import numpy as np
import pytest

from centermask_solo.evaluation.pairing import pair_detections

NEVER = -np.inf


@pytest.mark.parametrize(
    ("similarities", "pairs"),
    [
        ([[0.6, 0.9], [0.5, 0.8]], [(0, 1), (1, 0)]),  # the first row comes first
        ([[0.6, NEVER], [0.9, NEVER]], [(0, 0)]),  # no column is taken twice
        ([[NEVER, NEVER], [-0.4, NEVER]], [(1, 0)]),  # a negative similarity is possible
        ([[], []], []),
        (np.zeros((0, 3)), []),
    ],
)
def test_each_row_takes_the_most_similar_free_column(similarities, pairs):
    matrix = np.array(similarities, np.float64)
    before = matrix.copy()
    assert pair_detections(matrix) == pairs
    np.testing.assert_array_equal(matrix, before)
