"""Datasets, configs and weights that can be read, but should not be used, or should all the same."""

import pytest

from tests.hostile.contents import CONTENT_TRIES
from tests.hostile.tries import assert_handled, mark_slow


@pytest.mark.parametrize("x", mark_slow(CONTENT_TRIES))
def test_contents(x, world, record_property):
    assert_handled(x, world, record_property)
