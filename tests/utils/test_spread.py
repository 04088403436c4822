"""Items that stand for many."""

import pytest

from centermask_solo.utils.spread import spread


@pytest.mark.parametrize(
    ("length", "most", "expected"),
    [(3, 8, [0, 1, 2]), (8, 3, [0, 2, 5]), (90, 3, [0, 30, 60]), (5, 4, [0, 1, 2, 3]), (0, 4, []), (4, 0, [])],
)
def test_indices_are_spread_evenly(length, most, expected):
    assert spread(length, most) == expected


def test_all_parts_are_seen():
    found = spread(90, 48)
    assert len(found) == len(set(found)) == 48 and found[-1] >= 88
