"""Convert a dataset from one annotation format to another, exactly where the format can hold it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

from ...utils.errors import ConfigError
from ...utils.files import atomic_write, claim_folder
from ...utils.text import counted, nearest_hint
from ..formats.objects import AnnotatedImage, Lost, list_lost
from .detection import FORMATS, find_format
from .image_files import ImageFiles, check_image_files, place_images
from .readers import Dataset, read_dataset
from .targets import check_folder, check_inputs_outside, check_names, identities, remove_earlier
from .writers import WRITERS, Writer

logger = logging.getLogger(__name__)


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
        overwrite: Whether the folder may hold an earlier result in the same format. Its annotations are replaced, all
            of them, and so are images of the same names; no other file.

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
    check_inputs_outside(output, [x for x in (source, image_root) if x])
    claim_folder(output, (*writer.shared, *writer.patterns), overwrite=overwrite)
    data = read_dataset(source, source_format, image_root, class_names)
    check_names(data.images, writer, placed=image_files != "none")
    inputs = identities(x.path for x in data.images)
    check_folder(output, data.images, writer, inputs)
    if image_files != "none":
        check_image_files(data, output, writer, image_files, inputs, overwrite=overwrite)
    else:
        _warn_of_missing(data, source)
    lost = Lost(data.lost)
    total = len(data.images)
    files = writer.files(data, lost, lambda x: _seen_from(output, x, writer, image_files))
    for name, content in files:
        with atomic_write(os.path.join(output, name), "wb", durable=False) as file:
            file.write(content)
    if image_files != "none":
        place_images(data, output, writer, image_files)
    remove_earlier(output, data.images, writer, inputs)
    kept = {name: count for name, count in sorted(lost.items()) if count}
    if kept:
        logger.warning("%s cannot hold everything: %s", target_format, list_lost(kept))
    objects = sum(len(x.objects) for x in data.images)
    root = data.image_root if image_files == "none" else os.path.normpath(os.path.join(output, writer.folder))
    return Conversion(source_format, target_format, total, objects, data.class_names, kept, output, root)


def _warn_of_missing(data: Dataset, source: str) -> None:
    """Warn of images that are inside of the annotations, or not where the dataset has them."""
    if count := sum(bool(x.inside) for x in data.images):
        images = counted(count, "image")
        logger.warning("%s only inside of the files of %s: --copy-images writes what is inside", images, source)
    missing = [x.path for x in data.images if not x.inside and not os.path.isfile(x.path)]
    if missing:
        logger.warning(
            "the files of %d of %s are missing, such as %s, but the result refers to them: "
            "give their folder with --images",
            len(missing),
            counted(len(data.images), "image"),
            missing[0],
        )


def _seen_from(output: str, image: AnnotatedImage, writer: Writer, image_files: ImageFiles) -> str:
    """Return the path of an image from the output folder: where it will be, or where it is."""
    return writer.image_path(image) if image_files != "none" else os.path.relpath(image.path, output)
