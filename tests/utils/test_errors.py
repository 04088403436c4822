"""A UserError becomes a one-line message; every other error keeps its traceback."""

import errno
import logging
import os
import subprocess
import sys

import pytest
from torch.utils.data import DataLoader, Dataset

from centermask_solo.training.launch import reported_once
from centermask_solo.utils import errors
from centermask_solo.utils.errors import (
    ConfigError,
    DataError,
    NonFiniteLossError,
    UserError,
    UserErrorFilter,
    WeightsError,
    as_user_error,
    reported_errors,
    user_message,
)

MESSAGE = "the image a.png is damaged (DataError: bad header): replace it"


def caught(function, *args):
    try:
        function(*args)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def mismatch():
    list(zip([1], [1, 2], strict=True))


class Failing(Dataset):
    """Fails on access."""

    def __init__(self, error, cause=None):
        self.error = error
        self.cause = cause

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if self.error is None:
            mismatch()
        raise self.error from self.cause


def load(dataset, num_workers):
    next(iter(DataLoader(dataset, num_workers=num_workers)))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", [DataError, NonFiniteLossError])
def test_message_of_a_user_error(num_workers, kind):
    error = caught(load, Failing(kind(MESSAGE), cause=OSError("DataError: cut off")), num_workers)
    assert type(error) is kind
    assert ("Traceback" in str(error)) == (num_workers > 0)
    assert user_message(error) == MESSAGE


@pytest.mark.parametrize(
    ("error", "num_workers"),
    [(None, 0), (None, 2), (FileNotFoundError("x.png"), 0), (ValueError("x"), 2), (FloatingPointError("x"), 0)],
)
def test_other_errors_have_no_message_for_the_user(error, num_workers):
    assert user_message(caught(load, Failing(error), num_workers)) is None
    assert user_message(None) is None


def test_message_is_one_line():
    assert user_message(ConfigError("two\n  lines")) == "two lines"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_full_disk_and_missing_rights_are_errors_of_the_user(number, capsys):
    error = OSError(number, os.strerror(number), "folder/a.json")
    message = f"folder/a.json cannot be read or written ({os.strerror(number)}): free some space, fix "
    assert str(as_user_error(error)).startswith(message)
    assert str(as_user_error(OSError(number, os.strerror(number)))).startswith("a file cannot be read or written (")
    for run in (reported_errors, reported_once):
        with pytest.raises(SystemExit) as end, run():
            raise error
        assert end.value.code == 2 and capsys.readouterr().err.startswith(f"error: {message}")
    record = logging.LogRecord("", logging.ERROR, "", 0, "", (), (OSError, error, None))
    assert not UserErrorFilter().filter(record)


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "x"), OSError("x"), ValueError("x"), None])
def test_other_errors_are_none_of_the_user(error):
    assert as_user_error(error) is None
    assert as_user_error(reported := UserError("x")) is reported
    if error is not None:
        for run in (reported_errors, reported_once):
            with pytest.raises(type(error)), run():
                raise error


def test_kinds():
    for kind in (ConfigError, DataError, WeightsError, NonFiniteLossError):
        assert issubclass(kind, UserError)
    assert issubclass(UserError, ValueError)
    assert issubclass(NonFiniteLossError, FloatingPointError)


def test_user_error_ends_the_program_with_its_message_and_code_2(capsys):
    with pytest.raises(SystemExit) as end, reported_errors():
        raise ConfigError("no such option")
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: no such option\n"


def test_other_errors_pass_through(capsys):
    with pytest.raises(ValueError, match="zip"), reported_errors():
        mismatch()
    assert capsys.readouterr().err == ""


def test_log_filter_drops_only_user_errors(caplog):
    logger = logging.getLogger("test_errors")
    logger.addFilter(UserErrorFilter())
    for error in (DataError("damaged"), caught(mismatch)):
        logger.error("failed", exc_info=error)
    logger.error("plain")
    assert [record.exc_info is not None for record in caplog.records] == [True, False]
    assert "argument 2 is longer" in caplog.text


def test_needs_no_torch():
    program = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit(bool({'torch', 'detectron2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program, errors.__file__]).returncode == 0


def test_ctrl_c_is_reported_without_a_traceback(capfd):
    with pytest.raises(SystemExit) as end, reported_errors():
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert capfd.readouterr().err == "interrupted\n"
