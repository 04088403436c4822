"""Convert a dataset from one annotation format to another, exactly where the format can hold it."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from PIL import Image

from ...utils.errors import ConfigError, DataError
from ...utils.files import atomic_write, claim_folder
from ...utils.text import counted, name_some, nearest_hint
from ..formats.objects import AnnotatedImage, Lost
from .detection import FORMATS, find_format
from .folders import progress
from .labelme_folder import open_image
from .readers import Dataset, read_dataset
from .writers import WRITERS, Writer

logger = logging.getLogger(__name__)

ImageFiles = Literal["none", "copy", "link"]


class Conversion(NamedTuple):
    """What a conversion did.

    Attributes:
        source_format: Format that was read.
        target_format: Format that was written.
        images: Number of images.
        objects: Number of objects in the source.
        classes: Names of the classes, in order.
        lost: What the target cannot hold, and how often.
        output: Folder that was written to.
        image_root: Folder that the names of the images are relative to.
    """

    source_format: str
    target_format: str
    images: int
    objects: int
    classes: list[str]
    lost: dict[str, int]
    output: str
    image_root: str


def convert_dataset(
    source: str,
    target_format: str,
    output: str,
    *,
    source_format: str = "",
    image_root: str = "",
    class_names: Sequence[str] | None = None,
    image_files: ImageFiles = "none",
    overwrite: bool = False,
) -> Conversion:
    """Write a dataset in another format, and say in one warning what that format cannot hold.

    Args:
        source: Folder of the dataset, or COCO's json.
        target_format: "coco", "labelme", "yolo", "voc", "maps" or "cityscapes".
        output: Folder to write to.
        source_format: As ``target_format``; "" to find out.
        image_root: Folder of the images, where the source does not tell.
        class_names: Names of the classes, in order, where the source does not tell.
        image_files: Whether to put the images where the format has them, too: "copy" them, "link" to them, or "none".
        overwrite: Whether the folder may hold an earlier result; files of the same name are replaced.

    Raises:
        UserError: The source cannot be read, or the output cannot be written without a loss of files.
    """
    for name in filter(None, (source_format, target_format)):
        if name not in FORMATS:
            raise ConfigError(f"the format '{name}' is unknown{nearest_hint(name, FORMATS)}: use {', '.join(FORMATS)}")
    source_format = source_format or find_format(source)
    if source_format == target_format:
        raise ConfigError(f"{source} is in the format {target_format} already: choose another --to")
    writer = WRITERS[target_format]
    inputs = [x for x in (source, image_root) if x]
    claim_folder(output, writer.results, inputs, overwrite=overwrite)
    data = read_dataset(source, source_format, image_root, class_names)
    _check_stems(data, target_format)
    if image_files != "none":
        _check_images(data)
    elif count := sum(bool(x.inside) for x in data.images):
        images = counted(count, "image")
        logger.warning("%s only inside of the files of %s: --copy-images writes what is inside", images, source)
    lost = Lost(data.lost)
    total = len(data.images)
    files = writer.files(data, lost, lambda x: _seen_from(output, x, writer, image_files))
    for name, content in files:
        with atomic_write(os.path.join(output, name), "wb", durable=False) as file:
            file.write(content)
    if image_files != "none":
        _place_images(data, output, writer, image_files)
    kept = {name: count for name, count in sorted(lost.items()) if count}
    if kept:
        items = [f"{name}: {count}" for name, count in kept.items()]
        logger.warning("%s cannot hold everything: %s", target_format, name_some(items))
    objects = sum(len(x.objects) for x in data.images)
    root = data.image_root if image_files == "none" else os.path.normpath(os.path.join(output, writer.folder))
    return Conversion(source_format, target_format, total, objects, data.class_names, kept, output, root)


def _check_stems(data: Dataset, target_format: str) -> None:
    """Raise DataError if files of two images would have the same name."""
    key = "file_name" if target_format == "coco" else "stem"
    stem, count = Counter(getattr(x, key) for x in data.images).most_common(1)[0]
    if count > 1:
        raise DataError(f"{count} images are named '{stem}' but for their suffix: rename all but one")
    outside = next((x.file_name for x in data.images if ".." in x.file_name.split("/") or x.file_name[:1] == "/"), None)
    if outside is not None and target_format != "coco":
        raise DataError(f"the image {outside} is outside of the folder of images: give a folder above it by --images")


def _check_images(data: Dataset) -> None:
    """Raise DataError if an image is missing."""
    missing = [x.path for x in data.images if not x.inside and not os.path.isfile(x.path)]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"the image {missing[0]} is missing{more}: give the folder of the images by --images")


def _seen_from(output: str, image: AnnotatedImage, writer: Writer, image_files: ImageFiles) -> str:
    """Return the path of an image from the output folder: where it will be, or where it is."""
    return writer.image_path(image) if image_files != "none" else os.path.relpath(image.path, output)


def _place_images(data: Dataset, output: str, writer: Writer, image_files: ImageFiles) -> None:
    """Copy or link the images to where the format has them."""
    for image in progress(data.images, "images"):
        target = os.path.join(output, writer.image_path(image))
        same_suffix = Path(target).suffix.lower() == Path(image.path).suffix.lower()
        if image_files == "link" and same_suffix and not image.inside:
            _link(image.path, target)
            continue
        with open_image(image) as original, atomic_write(target, "wb", durable=False) as file:
            if same_suffix:
                shutil.copyfileobj(original, file)
            else:
                _encode(original, file)


def _encode(original: IO[bytes], file: IO[Any]) -> None:
    """Write an image as PNG."""
    with Image.open(original) as image:
        image.save(file, format="PNG")


def _link(path: str, target: str) -> None:
    """Link to an image; a link that is there already is replaced, a file is not."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(target):
        os.unlink(target)
    elif os.path.exists(target):
        raise ConfigError(f"{target} exists already and is no link: remove it, or choose another folder")
    os.symlink(os.path.abspath(path), target)
