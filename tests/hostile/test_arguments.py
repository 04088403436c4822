"""Numbers, options, places to write to, and arguments of functions, as they should not be."""

import pytest

from tests.hostile.arguments import ARGUMENT_TRIES
from tests.hostile.tries import assert_handled, mark_slow


@pytest.mark.parametrize("x", mark_slow(ARGUMENT_TRIES))
def test_arguments(x, world, record_property):
    assert_handled(x, world, record_property)
