"""Every file that a command reads, as it should not be."""

import re

import pytest

from tests.hostile.guard import attempt
from tests.hostile.results import PROPERTY
from tests.hostile.tries import ACCEPTED, CLEAR, EITHER, FILE_TRIES, Try
from tests.hostile.world import World


def judge(x: Try, world: World, record_property) -> None:
    """Fail unless a try ends as it should; record what it ended in."""
    outcome = attempt(lambda: x.run(world))
    kind = outcome.kind
    vague = kind == CLEAR and not re.search(x.message, outcome.text)
    if vague or kind not in {EITHER: (CLEAR, ACCEPTED)}.get(x.expected, (x.expected,)):
        kind = "wrong"
    elif kind == ACCEPTED:
        try:
            x.check(world)
        except AssertionError as error:
            kind, outcome = "wrong", outcome._replace(text=f"the result is wrong: {error}")
    record_property(PROPERTY, (x.command, x.kind, kind))
    assert kind != "wrong", f"{outcome.kind}: {outcome.text[-600:]}"


@pytest.mark.parametrize("x", FILE_TRIES, ids=str)
def test_files(x, world, record_property):
    judge(x, world, record_property)
