"""Numbers, options, places to write to, and arguments of functions, as they should not be."""

import pytest

from tests.hostile.arguments import ARGUMENT_TRIES
from tests.hostile.tries import judge, mark_slow


@pytest.mark.parametrize("x", mark_slow(ARGUMENT_TRIES))
def test_arguments(x, world, record_property):
    judge(x, world, record_property)
