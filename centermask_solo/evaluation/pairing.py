"""Which detections of two results for one image are taken for the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pair_detections(similarities: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the pairs, one to one: each detection of the first result, in order, takes the most similar free one.

    Args:
        similarities: (M, R) of every pair; -inf for those that cannot be the same.
    """
    free = similarities.copy()
    pairs: list[tuple[int, int]] = []
    for row in range(len(free)):
        if free.shape[1] and free[row].max() > -np.inf:
            column = int(free[row].argmax())
            pairs.append((row, column))
            free[:, column] = -np.inf
    return pairs
