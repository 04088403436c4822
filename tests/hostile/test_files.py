"""Every file that a command reads, as it should not be."""

import pytest

from tests.hostile.tries import FILE_TRIES, judge


@pytest.mark.parametrize("x", FILE_TRIES, ids=str)
def test_files(x, world, record_property):
    judge(x, world, record_property)
