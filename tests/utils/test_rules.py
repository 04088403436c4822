"""Numbers on the command line are checked when they are read."""

import argparse

import pytest

from centermask_solo.cli import build_parser
from centermask_solo.utils.rules import COUNT, argument, at_least, between


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "--batch-size", "0"], "argument --batch-size: must be an integer of at least 1, not '0'"),
        (["predict", "--batch-size", "x"], "argument --batch-size: must be an integer of at least 1, not 'x'"),
        (["predict", "--score-threshold", "nan"], "argument --score-threshold: must be from 0 to 1, not 'nan'"),
        (["predict", "--score-threshold", "-1"], "argument --score-threshold: must be from 0 to 1, not '-1'"),
        (["compare", "--count", "-3"], "argument --count: must be an integer of at least 1, not '-3'"),
        (["train", "--num-gpus", "-1"], "argument --num-gpus: must be an integer of at least 0, not '-1'"),
        (["train", "--num-machines", "0"], "argument --num-machines: must be an integer of at least 1, not '0'"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_an_impossible_number_ends_before_anything_starts(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_an_argument_is_the_number_that_was_typed():
    assert argument(COUNT)("12") == 12
    assert argument(between(0, 1), float)("0.25") == 0.25
    for text in ("inf", "nan", "-0.1", "", "0x"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"must be at least 0, not '{text}'"):
            argument(at_least(0), float)(text)
