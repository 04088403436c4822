"""Put the images of a dataset to where a format has them: copied, linked, or written anew."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path
from typing import IO, Any, Literal

from PIL import Image

from ...utils.errors import ConfigError, DataError
from ...utils.files import atomic_write, claim_file, is_same, make_folder
from ..formats.objects import AnnotatedImage
from ..images import read_image
from .folders import progress
from .labelme_folder import open_image
from .readers import Dataset
from .targets import Identity, refuse_input
from .writers import Writer

ImageFiles = Literal["none", "copy", "link"]


def check_image_files(
    data: Dataset, output: str, writer: Writer, image_files: ImageFiles, inputs: set[Identity], *, overwrite: bool
) -> None:
    """Check, before anything is written, that the images can be put to where the format has them.

    Args:
        data: The dataset.
        output: Folder to write to.
        writer: The format.
        image_files: "copy" or "link".
        inputs: Files that are read.
        overwrite: Whether other files may be replaced.

    Raises:
        DataError: An image is missing.
        ConfigError: An input would be replaced, or, without ``overwrite``, a file of other content.
    """
    missing = [x.path for x in data.images if not x.inside and not os.path.isfile(x.path)]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"the image {missing[0]} is missing{more}: give the folder of the images by --images")
    for image in data.images:
        target = os.path.join(output, writer.image_path(image))
        if not _is_there(image, target, image_files):
            refuse_input(target, inputs)
            claim_file(target, overwrite=overwrite or (image_files == "copy" and _has_content(image, target)))


def place_images(data: Dataset, output: str, writer: Writer, image_files: ImageFiles) -> None:
    """Copy or link the images to where the format has them; arguments are those of :func:`check_image_files`."""
    for image in progress(data.images, "images"):
        target = os.path.join(output, writer.image_path(image))
        if _is_there(image, target, image_files):
            continue
        if image_files == "link" and _keeps_bytes(image, target) and not image.inside:
            _link(image.path, target)
            continue
        with atomic_write(target, "wb", durable=False) as file:
            if _keeps_bytes(image, target):
                with open_image(image) as original:
                    shutil.copyfileobj(original, file)
            else:
                _write_png(image, file)


def _keeps_bytes(image: AnnotatedImage, target: str) -> bool:
    """Return whether the format has an image in a file of the same kind."""
    return Path(target).suffix.lower() == Path(image.path).suffix.lower()


def _is_there(image: AnnotatedImage, target: str, image_files: ImageFiles) -> bool:
    """Return whether the target is the image itself or, where links are asked for, a link to it."""
    if not _keeps_bytes(image, target) or not os.path.exists(target) or not is_same(image.path, target):
        return False
    return image_files == "link" or not os.path.islink(target)


def _has_content(image: AnnotatedImage, target: str) -> bool:
    if image.inside or not _keeps_bytes(image, target) or not os.path.isfile(target):
        return False
    return filecmp.cmp(image.path, target, shallow=False)


def _write_png(image: AnnotatedImage, file: IO[Any]) -> None:
    """Write the pixels of an image, in which EXIF data turn nothing anymore."""
    if image.inside:
        with open_image(image) as content, Image.open(content) as stored:
            pixels = stored.convert("RGB")  # as labelme shows it, which does not turn it
    else:
        pixels = Image.fromarray(read_image(image.path, "RGB", max_pixels=0))
    pixels.save(file, format="PNG")


def _link(path: str, target: str) -> None:
    """Link to an image in place of what is at the target."""
    make_folder(os.path.dirname(target))
    if os.path.lexists(target):
        os.unlink(target)
    try:
        os.symlink(os.path.abspath(path), target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be linked ({error.strerror}): use --copy-images") from error
