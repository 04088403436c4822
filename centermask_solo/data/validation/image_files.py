"""The one pass over the image files of a dataset: each is decoded once, in threads, and compared with the json."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from detectron2.utils.file_io import PathManager
from PIL import Image
from tqdm import tqdm

from ...utils.errors import DataError
from ...utils.threads import available_cores, in_threads
from ..formats.coco import Record
from ..images import TooLargeError, format_and_orientation, read_image, wrong_size
from . import image_rules
from .fields import has_size
from .findings import Findings, Rule
from .looks import Look, LookIndex, look_of

MAX_THREADS = 8  # more wait for the disk
MAX_HASHED = 1 << 26  # bytes of a file that tell it from others, with its size
AHEAD = 4  # images per thread that are decoded before they are asked for


class ImageFile(NamedTuple):
    """What a pass over the images finds out about one.

    Attributes:
        path: Its file.
        error: Why it cannot be decoded; None if it can.
        size: (width, height) after the turn that its EXIF data asks for.
        orientation: EXIF orientation, 1 if it is shown as stored.
        is_plain: Whether all its pixels have one color.
        is_renamed: Whether its format is not the one that its name says.
        digest: Hash of the file's size and of its content, as far as it is read.
        look: What similar images share.
    """

    path: str
    error: DataError | None
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    is_plain: bool = False
    is_renamed: bool = False
    digest: bytes = b""
    look: Look | None = None


def examine(path: str, max_pixels: int) -> ImageFile:
    """Decode an image and return what there is to know about it."""
    try:
        pixels = read_image(path, "RGB", max_pixels)
    except DataError as error:
        return ImageFile(path, error)
    with PathManager.open(path, "rb") as file:
        content = file.read(MAX_HASHED)
        size = file.seek(0, os.SEEK_END)
    digest = hashlib.blake2b(content + str(size).encode(), digest_size=16).digest()
    image_format, orientation = format_and_orientation(path)
    extension = path[path.rfind(".") :].lower()
    named = Image.registered_extensions().get(extension, image_format)
    return ImageFile(
        path,
        None,
        (pixels.shape[1], pixels.shape[0]),
        orientation,
        bool((pixels == pixels[0, 0]).all()),
        named != image_format and {named, image_format} != {"JPEG", "MPO"},  # the latter: several JPEGs in one
        digest,
        look_of(pixels),
    )


def check_image_files(
    images: Sequence[tuple[Record, str]], findings: Findings, max_pixels: int, label: str = "images"
) -> list[ImageFile]:
    """Find images that are damaged, of another size than the json says, or turned; return those that are usable.

    Args:
        images: Entries of the json and the paths of their files.
        findings: What is added to.
        max_pixels: Most pixels of an image; 0 for no limit.
        label: What the progress bar counts.
    """
    threads = min(available_cores(), MAX_THREADS)
    work = in_threads(partial(examine, max_pixels=max_pixels), (x for _, x in images), threads, threads * AHEAD)
    bar = tqdm(work, label, total=len(images), unit_scale=True, mininterval=1.0, leave=False)
    usable = []
    for (x, path), file in zip(images, bar, strict=True):
        if file.error is not None:
            too_large = isinstance(file.error, TooLargeError)
            findings.add(image_rules.IMAGE_TOO_LARGE if too_large else image_rules.DAMAGED_IMAGE, str(file.error))
            continue
        usable.append(file)
        if has_size(x):
            _check_size(file, (x["width"], x["height"]), findings)
        if file.is_plain:
            findings.add(image_rules.PLAIN_IMAGE, path)
        if file.is_renamed:
            findings.add(image_rules.FORMAT_DIFFERS, path)
    return usable


def _check_size(file: ImageFile, expected: tuple[int, int], findings: Findings) -> None:
    if file.size == expected:
        if 2 <= file.orientation <= 4:
            findings.add(image_rules.TURNED_IMAGE, f"{file.path} (orientation {file.orientation})")
        return
    rule: Rule = image_rules.SIZE_DIFFERS
    if file.size == expected[::-1]:
        rule = image_rules.QUARTER_TURN if file.orientation >= 5 else image_rules.SIZE_SWAPPED
    findings.add(rule, str(wrong_size(file.path, file.size, expected)))


def find_copies(files: Iterable[ImageFile], findings: Findings) -> None:
    """Find images of a dataset that are the same, or look alike."""
    distinct: dict[bytes, ImageFile] = {}
    for x in {x.path: x for x in files}.values():
        first = distinct.setdefault(x.digest, x)
        if first is not x:
            findings.add(image_rules.IMAGE_TWICE, f"{x.path} (as {first.path})")
    index = LookIndex()
    for x in distinct.values():
        like = index.add(x.look, x.path)
        if like is not None:
            findings.add(image_rules.IMAGE_SIMILAR, f"{x.path} (like {like})")


def find_leaks(files: Sequence[ImageFile], others: Sequence[ImageFile], findings: Findings) -> None:
    """Find images of a dataset that are also in another set, or look like one of it."""
    known = {x.digest: x for x in others}
    index = LookIndex()
    for x in others:
        index.add(x.look, x.path)
    for x in files:
        if x.digest in known:
            findings.add(image_rules.LEAKED_IMAGE, f"{x.path} (as {known[x.digest].path})")
            continue
        like = index.find(x.look)
        if like is not None:
            findings.add(image_rules.LEAKED_SIMILAR, f"{x.path} (like {like})")
