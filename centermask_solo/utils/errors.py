"""Errors that the user can fix: one line on stderr and exit code 2 instead of a traceback."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 2
MAX_MESSAGE = 1400  # characters; longer messages, which quote long values, are cut in the middle
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # with or without a path
REFUSALS = {  # what the file system refuses about a path that the user has chosen
    *(errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR),
    *(errno.EIO, errno.ENXIO, errno.EMFILE, errno.ENFILE),
}
DISK_FIX = "free some space, fix the permissions, or choose another path"
EXIT_INTERRUPTED = 130  # as a shell reports a program that Ctrl-C ended


class UserError(ValueError):
    """Input that the user can correct. The message is one line that names the culprit and the fix."""


class ConfigError(UserError):
    """A config, an option or an argument of a command."""


class DataError(UserError):
    """A dataset, an annotation file, an image or a proposal file."""


class WeightsError(UserError):
    """A weight file: missing, unreadable, or not for this model."""


class NonFiniteLossError(UserError, FloatingPointError):
    """A training loss that became infinite or NaN."""


class MissingPackageError(UserError, ImportError):
    """A package that must be installed first."""


def user_message(error: BaseException | None) -> str | None:
    """Return the one-line message of a :class:`UserError`, or None for any other error.

    A worker process of PyTorch's DataLoader hands its error over as one of the same type whose message is the worker's
    traceback; the message is then the end of that traceback.
    """
    if not isinstance(error, UserError):
        return None
    text, name = str(error), type(error).__name__
    if text.startswith(f"Caught {name} ") and "\nOriginal " in text:
        text = re.split(rf"^(?:\w+\.)*{name}: ", text, flags=re.MULTILINE)[-1]
    text = " ".join(text.split())
    half = MAX_MESSAGE // 2
    return text if len(text) <= MAX_MESSAGE else f"{text[:half]} … {text[-half:]}"


def as_user_error(error: BaseException | None) -> UserError | None:
    """Return the :class:`UserError` for an error that the user can fix, a full disk included; None for any other."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name == "detectron2":
        from .packages import missing_detectron2

        return missing_detectron2()
    if not isinstance(error, OSError):
        return None
    if error.errno in DISK_ERRORS or (error.filename is not None and error.errno in REFUSALS):
        what = "a file" if error.filename is None else os.fsdecode(error.filename)
        return UserError(f"{what} cannot be read or written ({error.strerror}): {DISK_FIX}")
    return None


def report(error: UserError) -> None:
    """Print ``error: <message>`` to stderr."""
    print(f"error: {user_message(error)}", file=sys.stderr, flush=True)


def escape_unencodable(stream: object) -> None:
    r"""Let a text stream write escapes such as ``\udce9`` for what it cannot encode, as in names of other encodings."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


@contextmanager
def reported_errors() -> Iterator[None]:
    """Report a :class:`UserError` raised inside and exit with code 2; let other errors pass with their traceback.

    So are what the machine refuses, such as a full disk or a folder without permissions, and a missing Detectron2.
    Ctrl-C ends in one line and exit code 130. Standard output escapes what its encoding lacks.
    """
    escape_unencodable(sys.stdout)
    try:
        yield
    except (UserError, OSError, ModuleNotFoundError) as error:
        reported = as_user_error(error)
        if reported is None:
            raise
        report(reported)
        raise SystemExit(EXIT_CODE) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_INTERRUPTED) from None


class WarningFormatter(logging.Formatter):
    """Formats records like the errors above: the message, after "warning: " or "error: " if it is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        text = super().format(record)
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


class UserErrorFilter(logging.Filter):
    """Drops log records with the traceback of a :class:`UserError`, which is reported elsewhere."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a record that carries such a traceback."""
        return record.exc_info is None or as_user_error(record.exc_info[1]) is None
