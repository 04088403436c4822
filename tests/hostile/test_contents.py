"""Datasets, configs and weights that can be read, but should not be used, or should all the same."""

import pytest

from tests.hostile.contents import CONTENT_TRIES
from tests.hostile.tries import judge, mark_slow


@pytest.mark.parametrize("x", mark_slow(CONTENT_TRIES))
def test_contents(x, world, record_property):
    judge(x, world, record_property)
