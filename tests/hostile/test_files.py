"""Every file that a command reads, as it should not be."""

import pytest

from tests.hostile.tries import FILE_TRIES, assert_handled, mark_slow


@pytest.mark.parametrize("x", mark_slow(FILE_TRIES))
def test_files(x, world, record_property):
    assert_handled(x, world, record_property)
