"""What a user is told when the input is at fault: one sentence instead of a traceback."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detectron2.utils import comm


class UserError(ValueError):
    """Input that the user can correct. The message is one line that names the culprit and the fix."""


class ConfigError(UserError):
    """A config, an option or an argument of a command."""


class DataError(UserError):
    """A dataset, an annotation file, an image or a proposal file."""


class WeightsError(UserError):
    """A weight file: missing, unreadable, or not for this model."""


PACKAGE = str(Path(__file__).resolve().parents[1])
EXIT_CODE = 2
# Several processes meet most errors together. The main one speaks, and its end ends the others before they do; it waits
# until they have left what it serves to them, without which they would fail in another way.
SECONDS_FOR_THE_MAIN_PROCESS = 30
SECONDS_FOR_THE_OTHERS = 3


def user_sentence(error: BaseException | None) -> str | None:
    """The sentence for the user if this package raised ``error`` to complain about input; None if it is a defect.

    A ValueError, FileNotFoundError or FloatingPointError whose innermost frame lies in this package was raised by it on
    purpose; the same from deeper inside, say from torch, means that the program is wrong, and needs its traceback.
    """
    if not isinstance(error, (ValueError, FileNotFoundError, FloatingPointError)):
        return None
    text = str(error)
    if "Original Traceback" in text:  # raised in a worker process of the data loader, which hands over text alone
        files = re.findall(r'^ *File "([^"]+)"', text, re.MULTILINE)
        message = text.split(f"{type(error).__name__}: ")[-1].strip()
        return message if files and files[-1].startswith(PACKAGE) else None
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None or not traceback.tb_frame.f_code.co_filename.startswith(PACKAGE):
        return None
    return text


@contextmanager
def reported_errors() -> Iterator[None]:
    """Inside, an error in what the user gave ends the program with ``error: <sentence>`` and exit code 2."""
    try:
        yield
    except Exception as error:
        sentence = user_sentence(error)
        if sentence is None:
            raise
        if not comm.is_main_process():
            time.sleep(SECONDS_FOR_THE_MAIN_PROCESS)
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        if comm.get_world_size() > 1:
            time.sleep(SECONDS_FOR_THE_OTHERS)
        raise SystemExit(EXIT_CODE) from None


class WithoutUserTracebacks(logging.Filter):
    """Keeps the tracebacks of errors that :func:`reported_errors` reports out of a log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a record that carries such a traceback."""
        return record.exc_info is None or user_sentence(record.exc_info[1]) is None
