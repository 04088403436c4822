"""Read files that users name: whatever the file system and the decoders raise becomes one line with the path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import ConfigError, DataError, UserError


@contextmanager
def reading(path: str, error_type: type[UserError] = DataError) -> Iterator[None]:
    """Turn what reading a file raises inside, except that it is missing, into an error that names the file.

    Raises:
        error_type: The file cannot be read, is no text in UTF-8, is nested too deeply, or does not fit into memory.
        FileNotFoundError: It is missing, which the caller explains.
    """
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except OSError as error:
        raise error_type(
            f"{path} cannot be read ({error.strerror or error}): correct the path or fix its permissions"
        ) from error
    except UnicodeDecodeError as error:
        found = error.object[error.start]
        raise error_type(f"{path} is not UTF-8 (byte {error.start} is 0x{found:02x}): save it as UTF-8") from error
    except RecursionError as error:
        raise error_type(f"{path} is nested too deeply: remove levels of lists or dicts") from error
    except MemoryError as error:
        raise error_type(f"{path} is too large for the memory of this machine: give a smaller file") from error


def check_regular(path: str) -> None:
    """Raise OSError if a local path is there but is no plain file: a pipe, for one, could be waited for without end."""
    if "://" in path or not os.path.lexists(path):
        return
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(0, "it is a folder" if stat.S_ISDIR(mode) else "it is no plain file", path)


def error_without_images(path: str) -> UserError:
    """Return the error of an annotation file that is given without the folder of its images."""
    if not os.path.isfile(path):
        return DataError(f"there is no file {path}: correct the path")
    return ConfigError(f"give the folder of the images after {path}")


def read_text(path: str, error_type: type[UserError] = DataError) -> str:
    """Return the content of a text file in UTF-8, without a byte-order mark.

    Raises:
        error_type: See :func:`reading`.
        FileNotFoundError: It is missing.
    """
    with reading(path, error_type):
        check_regular(path)
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
