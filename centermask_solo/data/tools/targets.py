"""The files that a conversion writes: checked before the first; at the end those of an earlier result are removed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ...utils.errors import ConfigError, DataError
from ..formats.objects import AnnotatedImage
from ..images import IMAGE_SUFFIXES
from .folders import files_below
from .writers import Writer

Identity = tuple[int, int]  # device and number of a file, the same under all of its names


def identities(paths: Iterable[str]) -> set[Identity]:
    """Return what tells files apart, of those that exist; of links also of what they link to."""
    found = set()
    for path in paths:
        for stat in (os.stat, os.lstat):
            with suppress(OSError):
                status = stat(path)
                found.add((status.st_dev, status.st_ino))
    return found


def check_inputs_outside(output: str, inputs: Sequence[str]) -> None:
    """Raise ConfigError if an input is the output folder, or in it or its subfolders, be it through a link."""
    here = os.path.realpath(output)
    for path in inputs:
        if os.path.join(os.path.realpath(path), "").startswith(os.path.join(here, "")):
            raise ConfigError(
                f"the input {path} is in the output folder {output}: choose another folder for the output, outside of "
                "the inputs"
            )


def check_names(images: Sequence[AnnotatedImage], writer: Writer, *, placed: bool) -> None:
    """Raise DataError if two images would have the same file, or one would have a file outside of the output folder.

    Args:
        images: Those of a dataset.
        writer: The format.
        placed: Whether the images are written, too.
    """
    owners: dict[str, str] = {}
    for image in images:
        if (placed or writer.own(image)) and (image.file_name[:1] == "/" or ".." in image.file_name.split("/")):
            raise DataError(
                f"the image {image.file_name} is outside of the folder of images: give a folder above it by --images"
            )
        for path in map(os.path.normpath, (writer.image_path(image), *writer.own(image))):
            if path not in owners:
                owners[path] = image.file_name
            elif owners[path] == image.file_name:
                raise DataError(f"the image {image.file_name} is annotated twice: join its annotations, or drop one")
            else:
                raise DataError(
                    f"the images {owners[path]} and {image.file_name} would both become {path}: rename one of them"
                )


def check_folder(output: str, images: Sequence[AnnotatedImage], writer: Writer, inputs: set[Identity]) -> None:
    """Check the files to write, except images, and the images that are there.

    Args:
        output: Folder to write to.
        images: Those of the dataset.
        writer: The format.
        inputs: Files that are read.

    Raises:
        ConfigError: An input would be replaced, or an image that is there would become one of the dataset.
    """
    for name in _names(images, writer):
        refuse_input(os.path.join(output, name), inputs)
    if not writer.reads_folder:
        return
    known = {os.path.normpath(writer.image_path(x)) for x in images}
    there = files_below(os.path.join(output, writer.folder), IMAGE_SUFFIXES)
    others = [x for x in there if os.path.relpath(x, output) not in known]
    if others:
        more = f", and {len(others) - 1} more" if len(others) > 1 else ""
        raise ConfigError(
            f"{others[0]}{more}, which the dataset lacks, would be read as an image without objects: remove it, or "
            "choose another folder"
        )


def refuse_input(path: str, inputs: set[Identity]) -> None:
    """Raise ConfigError if writing to a path would replace one of the inputs, and not only a link to it."""
    if _is_one_of(path, inputs):
        raise ConfigError(f"{path} is an input, which would be lost: choose another folder for the output")


def remove_earlier(output: str, images: Sequence[AnnotatedImage], writer: Writer, inputs: set[Identity]) -> None:
    """Remove the files of an earlier result in the same format that the new one does not have; images stay.

    Args:
        output: Folder with the new result.
        images: Those of the dataset.
        writer: The format.
        inputs: Files that are read, which stay, too.
    """
    kept = inputs | identities(os.path.join(output, x) for x in _names(images, writer))
    for pattern in writer.patterns:
        found = [x for x in Path(output).glob(pattern) if x.is_file() and not x.name.startswith(".")]
        for path in map(str, found):
            if not _is_one_of(path, kept) and writer.is_own(path):
                os.unlink(path)


def _is_one_of(path: str, files: set[Identity]) -> bool:
    try:
        status = os.lstat(path)
    except OSError:  # it does not exist
        return False
    return (status.st_dev, status.st_ino) in files


def _names(images: Sequence[AnnotatedImage], writer: Writer) -> list[str]:
    """Return the paths of all files to write, except images."""
    return [*writer.shared, *(name for x in images for name in writer.own(x))]
