"""Errors of the user are one sentence; defects keep their traceback."""

import logging

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from centermask_solo.checkpoint.checkpointer import check_weights_file
from centermask_solo.utils.errors import WithoutUserTracebacks, reported_errors, user_sentence


def caught(function, *args):
    try:
        function(*args)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


class Missing(Dataset):
    """Fails on access: as this package does, or as torch does."""

    def __init__(self, ours):
        self.ours = ours

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if self.ours:
            check_weights_file("/nowhere/x.pth")
        raise FileNotFoundError("not ours")


def first(dataset, num_workers):
    next(iter(DataLoader(dataset, num_workers=num_workers)))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_raised_by_this_package_is_a_sentence(num_workers):
    sentence = user_sentence(caught(first, Missing(True), num_workers))
    assert sentence.startswith("MODEL.WEIGHTS: there is no file /nowhere/x.pth;")
    assert "\n" not in sentence


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_same_error_from_elsewhere_is_a_defect(num_workers):
    assert user_sentence(caught(first, Missing(False), num_workers)) is None
    assert user_sentence(caught(torch.zeros(2).view, 3)) is None
    assert user_sentence(caught(int, "x")) is None
    assert user_sentence(None) is None


def test_program_ends_with_the_sentence_and_code_2(capsys):
    with pytest.raises(SystemExit) as end, reported_errors():
        check_weights_file("/nowhere/x.pth")
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: MODEL.WEIGHTS: there is no file")
    assert len(err.splitlines()) == 1


def test_defects_pass_through():
    with pytest.raises(ValueError, match="invalid literal"), reported_errors():
        int("x")


def test_log_filter_drops_only_user_errors(caplog):
    logger = logging.getLogger("test_errors")
    logger.addFilter(WithoutUserTracebacks())
    for error in (caught(check_weights_file, "/nowhere/x.pth"), caught(int, "x")):
        logger.error("failed", exc_info=error)
    logger.error("plain")
    assert [record.exc_info is not None for record in caplog.records] == [True, False]
    assert "invalid literal" in caplog.text
