"""Limits of time and memory for what hostile input makes the package do, and what came of it."""

import contextlib
import io
import re
import resource
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from centermask_solo.utils.errors import UserError

MAX_SECONDS = 10  # of one try; what is not a hang takes less than one on an idle machine
MAX_GROWTH = 600  # MB that one try may add to the largest memory of the process
_PAGE = resource.getpagesize()


class OutOfBoundsError(Exception):
    """A try took too long or too much memory."""


class Outcome(NamedTuple):
    """What a try ended in."""

    kind: str  # "clear", "accepted" or "wrong"
    text: str  # the message, or what was printed


def _resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE / 2**20


@contextlib.contextmanager
def bounded(seconds: float = MAX_SECONDS, megabytes: float = MAX_GROWTH) -> Iterator[None]:
    """Raise OutOfBoundsError inside if it takes too long, or afterwards if it has taken too much memory.

    The address space is limited, too, so that a wild allocation fails instead of filling the machine.
    """

    def stop(*_: Any) -> None:
        raise OutOfBoundsError(f"it took over {seconds} s")

    peak, done = [_resident_mb()], threading.Event()
    before = peak[0]

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _resident_mb())

    watcher = threading.Thread(target=watch, daemon=True)
    handler = signal.signal(signal.SIGALRM, stop)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * _PAGE
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 4 * 2**30, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    watcher.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        done.set()
        watcher.join()
    if peak[0] - before > megabytes:
        raise OutOfBoundsError(f"it took {peak[0] - before:.0f} MB")


def attempt(run: Callable[[], Any]) -> Outcome:
    """Run something; a traceback, a hang and an unclear message are "wrong"."""
    # Encoded as on a terminal, so that what cannot be encoded fails as there
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)

    def printed(stream: io.TextIOWrapper) -> str:
        return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]

    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), bounded():
            run()
    except UserError as error:  # of a function; a command reports it
        return _judge(f"error: {error}".replace("a\nb", "a b"))  # a file name of the tries
    except SystemExit as end:
        if end.code == 1 and "FAULT" in printed(out):  # check-dataset
            return Outcome("clear", printed(out))
        lines = printed(err).strip().splitlines()
        if end.code != 2:
            return Outcome("wrong", f"exit code {end.code}: {lines[-1:]}")
        return _judge(lines[-1] if lines else "nothing said")
    except BaseException as error:
        frames = [f"{Path(x.filename).name}:{x.lineno}" for x in traceback.extract_tb(error.__traceback__)[-4:]]
        return Outcome("wrong", f"{type(error).__name__}: {error} ({' '.join(frames)})")
    text = printed(out) + printed(err)
    return Outcome("wrong" if "Traceback" in text else "accepted", text)


def _judge(message: str) -> Outcome:
    """Return whether a message is one line, of a length that can be read."""
    message = re.sub("(culprit/)+", "culprit/", message)  # folders of the tries
    clear = "error: " in message and "\n" not in message.strip() and "Traceback" not in message and len(message) < 1500
    return Outcome("clear" if clear else "wrong", message)
