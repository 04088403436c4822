"""The gate in front of training and evaluation: refuse annotation files with errors, repair those that need it."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.utils.file_io import PathManager

from ...utils.errors import DataError
from ..formats.coco import CocoData, NotAnnotatedError, missing, read_coco_json, write_coco_json
from .catalog import RULES
from .closer import CloserLook
from .fields import check_lvis_fields
from .findings import Finding, Inspection
from .inspection import inspect
from .repair import repair
from .rules import NO_FILE_NAME, NO_ISCROWD

logger = logging.getLogger(__name__)

FileKey = tuple[str, int, int, bool]

_clean: set[FileKey] = set()  # files that need no repair
_announced: set[FileKey] = set()  # files whose repair was logged
_kept: dict[FileKey, CocoData] = {}  # what was read of files that are read again soon


def inspect_file(
    json_file: str, lvis: bool = False, *, keep: bool = False, closer: CloserLook | None = None
) -> tuple[CocoData, Inspection]:
    """Return the content of an annotation file and what validation finds in it.

    Args:
        json_file: Annotations in COCO format.
        lvis: Whether they are read as LVIS's, which have neither ``iscrowd`` nor ``file_name``.
        keep: Whether to keep the content, if it needs no repair, for :func:`read_once`.
        closer: Looks for what only a full report has, too.

    Raises:
        DataError: it is not COCO at all.
    """
    data = read_coco_json(json_file)
    found = inspect(data, closer)
    if lvis:
        check_lvis_fields(data, found.findings)
        found.findings.remove(NO_ISCROWD)
        found.findings.remove(NO_FILE_NAME)
    if not found.needs_repair:
        mark_clean(file_key(json_file, lvis))
        if keep:
            _kept[file_key(json_file, lvis)] = data
    return data, found


def read_usable(json_file: str, image_root: str, *, masks: bool = True, keep: bool = False) -> CocoData:
    """Return the content of an annotation file as :func:`usable_json` gives it; see :func:`read_once`.

    Args:
        json_file: Annotations in COCO format.
        image_root: Folder of its images.
        masks: Whether objects need masks.
        keep: Whether it is read again soon.

    Raises:
        NotAnnotatedError: The file lacks ``annotations``.
        DataError: The file has a fault.
    """
    with usable_json(json_file, image_root, masks=masks) as path:
        return read_once(path, keep)


def read_once(path: str, keep: bool = False) -> CocoData:
    """Return the content of an annotation file that needs no repair, from memory if it was kept there.

    Args:
        path: Annotations in COCO format.
        keep: Whether to keep it for the next call.

    Raises:
        DataError: The file is not COCO.
    """
    key = file_key(path)
    data = _kept.pop(key, None) or read_coco_json(path)
    if keep:
        _kept[key] = data
    return data


def admit(found: Inspection, json_file: str, image_root: str, *, masks: bool = True) -> None:
    """Raise DataError if validation found an error; log its warnings otherwise.

    Args:
        found: What validation found.
        json_file: Annotations in COCO format.
        image_root: Folder of their images.
        masks: Whether objects need masks.
    """
    refuse_errors(found, json_file, image_root, masks=masks)
    for x in found.findings.warnings(masks):
        logger.warning("%s: %s", json_file, format_warning(x))


def refuse_errors(
    found: Inspection, json_file: str, image_root: str, *, masks: bool = True, allow_empty: bool = False
) -> None:
    """Raise DataError, with the worst error and the number of the others, if validation found any."""
    errors = found.findings.errors(masks, allow_empty)
    if not errors:
        return
    worst = min(errors, key=lambda x: RULES.index(x.rule))
    others = len(errors) - 1
    more = f"; {others} more {'kind of fault' if others == 1 else 'kinds of faults'}" if others else ""
    command = f"centermask-solo data check {json_file} {image_root}".rstrip()
    raise DataError(
        f"{json_file}: {worst.count} x {worst.rule.title}, such as {worst.examples[0]}: {worst.rule.fix}{more} "
        f"('{command}' lists every fault)"
    )


def format_warning(finding: Finding) -> str:
    """Return a warning with its number, an example and what is done about it."""
    rule = finding.rule
    return f"{finding.count} x {rule.title}, such as {finding.examples[0]}: {rule.fix}"


@contextmanager
def usable_json(json_file: str, image_root: str, *, masks: bool = True, lvis: bool = False) -> Iterator[str]:
    """Give the path of an annotation file that pycocotools, lvis and Detectron2 read as it is meant.

    It is the file itself, unless it needs a repair: then it is a temporary copy.

    Args:
        json_file: Annotations in COCO format.
        image_root: Folder of its images.
        masks: Whether objects need masks.
        lvis: Whether the annotations are read as LVIS's.

    Raises:
        DataError: the file has a fault. A file without objects, or without ``annotations``, is no fault here.
    """
    key = file_key(json_file, lvis)
    if key in _clean:
        yield json_file
        return
    try:
        data, found = inspect_file(json_file, lvis)
    except NotAnnotatedError:
        mark_clean(key)
    else:
        refuse_errors(found, json_file, image_root, masks=masks, allow_empty=True)
    if key in _clean:
        yield json_file
        return
    if key not in _announced:
        _announced.add(key)
        repairs = "; ".join(
            f"{x.count} x {x.rule.title}: {x.rule.fix}" for x in found.findings.warnings(masks) if x.rule.repaired
        )
        logger.info("Reading a repaired copy of %s, which itself is not changed (%s)", json_file, repairs)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, os.path.basename(json_file))
        with open(path, "w", encoding="utf-8") as file:
            write_coco_json(repair(data, found, image_root, masks), file)
        del data, found
        yield path


def clean_files() -> list[FileKey]:
    """Return the annotation files that are known to need no repair."""
    return sorted(_clean)


def mark_clean(key: FileKey) -> None:
    """Remember that a file of this :func:`file_key` needs no repair."""
    _clean.add(key)


def file_key(json_file: str, lvis: bool = False) -> FileKey:
    """Return what identifies the present content of an annotation file and how it is read.

    Raises:
        DataError: It is missing.
    """
    path = os.path.abspath(PathManager.get_local_path(json_file))
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise missing(json_file) from None
    return path, status.st_mtime_ns, status.st_size, lvis
