"""What to predict: images, folders, patterns, videos, cameras, addresses, and lists of these."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob

from ..data.frames import Frame
from ..data.images import IMAGE_SUFFIXES
from ..utils.errors import DataError
from ..utils.text import counted
from .streams import count_frames, is_stream, is_video, read_frames

logger = logging.getLogger(__name__)

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Sources:
    """Images and frames, which are found and read only when it is their turn.

    Attributes:
        names: Files, and names of streams; :data:`STANDARD_INPUT` for those that it lists, one per line.
        count: Number of images and frames; None if it is unknown.
        recursive: Whether folders that standard input lists include their subfolders.
    """

    names: list[str]
    count: int | None
    recursive: bool = False

    @property
    def files(self) -> list[str]:
        """The files that are known to be read."""
        return [name for name in self.names if os.path.exists(name)]

    @property
    def is_live(self) -> bool:
        """Whether there are cameras or addresses, which only the user or another program may end."""
        return any(map(_is_live, self.names))

    def items(self, failures: list[DataError] | None = None) -> Generator[str | Frame, None, None]:
        """Yield the path of each image, and each frame.

        Args:
            failures: Takes the errors of videos that are damaged and of what standard input lists and is missing, which
                are then left out; without it, the first such error is raised.

        Raises:
            DataError: See there.
        """
        for name in self._listed(failures):
            if not is_stream(name):
                yield name
                continue
            try:
                yield from read_frames(name)
            except DataError as error:
                if failures is None:
                    raise
                failures.append(error)

    def _listed(self, failures: list[DataError] | None) -> Iterator[str]:
        for name in self.names:
            if name != STANDARD_INPUT:
                yield name
                continue
            for line in map(str.strip, sys.stdin):
                try:
                    if _is_live(line):
                        raise DataError(f"{line} on standard input may be live: give it by itself, not in a list")
                    yield from _expand(line, self.recursive) if line else ()
                except DataError as error:
                    if failures is None:
                        raise
                    failures.append(error)


def find_sources(inputs: Sequence[str], recursive: bool = False) -> Sources:
    """Return the images and streams that ``inputs`` name.

    Args:
        inputs: Image and video files, folders (their images), patterns, cameras ("0"), addresses of streams, and "-"
            for a list of files, folders and patterns on standard input, one per line.
        recursive: Whether the images in the subfolders of folders are found, too.

    Raises:
        DataError: One of them matches nothing.
        MissingPackageError: There is a video, and PyAV is not installed.
    """
    names = [x for name in inputs for x in ([name] if name == STANDARD_INPUT else _expand(name, recursive))]
    count: int | None = 0
    for name in names:
        number = _count(name) if os.path.isfile(name) and is_video(name) else 1
        is_known = number is not None and os.path.isfile(name)
        count = count + (number or 0) if is_known and count is not None else None
    return Sources(names, count, recursive)


def find_images(inputs: Sequence[str], recursive: bool = False) -> list[str]:
    """Return the image files that ``inputs`` name: files, folders (their images) and patterns.

    Images in subfolders that are not found are mentioned in the log. Hidden files of folders are left out, such as the
    "._1.jpg" that macOS writes beside a "1.jpg".

    Args:
        inputs: Files, folders and patterns.
        recursive: Whether the images in the subfolders of folders are found, too.

    Raises:
        DataError: One of them matches no file.
    """
    return [path for name in inputs for path in _find_files(name, recursive)]


def _count(name: str) -> int | None:
    with suppress(DataError):  # which is said in its turn, among the images
        return count_frames(name)
    return None


def _is_live(name: str) -> bool:
    return is_stream(name) and not os.path.isfile(name)


def _expand(name: str, recursive: bool) -> Iterable[str]:
    return [name] if is_stream(name) else _find_files(name, recursive)


def _find_files(name: str, recursive: bool) -> list[str]:
    if os.path.isdir(name):
        found = _find_in_folder(name, recursive)
    else:
        found = [name] if os.path.isfile(name) else sorted(glob(name, recursive=True))
    if not found:
        raise DataError(f"there is no image {name}: correct the path")
    return found


def _find_in_folder(folder: str, recursive: bool) -> list[str]:
    found: list[str] = []
    num_below = 0
    for path, folders, names in os.walk(folder):
        folders.sort()
        shown = (x for x in sorted(names) if not x.startswith("."))
        images = [os.path.join(path, x) for x in shown if x.lower().endswith(IMAGE_SUFFIXES)]
        if recursive or path == folder:
            found += images
        else:
            num_below += len(images)
    hint = f"its subfolders contain {num_below}, which --recursive includes"
    if not found:
        raise DataError(f"the folder {folder} contains no images ({hint if num_below else ', '.join(IMAGE_SUFFIXES)})")
    if num_below:
        logger.warning("%s: %s; %s", folder, counted(len(found), "image"), hint)
    return found
