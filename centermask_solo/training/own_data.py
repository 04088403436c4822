"""The user's own data from the command line: registered, and put in place of the config's datasets."""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

from detectron2.config import CfgNode

from ..data.class_names import read_class_names
from ..data.formats.coco import write_coco_json
from ..data.formats.objects import coco_content
from ..data.own_files import free_name
from ..data.processes import once_per_machine
from ..data.tools.inside import write_images_inside
from ..data.tools.readers import read_dataset
from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from ..utils.text import name_some

logger = logging.getLogger(__name__)

OPTIONS = ("DATASETS.COCO_JSON", "DATASETS.TRAIN", "DATASETS.TEST")
FOLDER = "datasets"  # below OUTPUT_DIR, for the jsons of folders in other formats


class _Given(NamedTuple):
    """What the flags ``--train-...`` or ``--val-...`` name; "" what they do not."""

    split: str
    json_file: str
    images: str
    folder: str

    @property
    def source(self) -> str:
        return self.json_file or self.folder


def use_own_data(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Put the data that the flags name in place of the config's datasets, in place.

    A folder in another format than COCO's is converted to a json below ``OUTPUT_DIR``. All processes must call this
    together: one per machine reads, and all return or raise the same.

    Args:
        cfg: Config that is not frozen.
        args: It may have ``train_json``, ``train_images``, ``train_dir``, the same of ``val``, and ``class_names``.

    Raises:
        UserError: Flags contradict each other or overrides, or a folder cannot be read.
    """
    train, val = _given(args, "train"), _given(args, "val")
    _check(train, val, args)
    given = [x for x in (train, val) if x.source]
    if not given:
        return
    both = sorted(set(OPTIONS) & set(args.opts[::2]))
    if both:
        raise ConfigError(f"the flags --train-... and --val-... set {both[0]}: give the flags or the override")
    entries = once_per_machine(lambda: _entries(given, args, cfg.OUTPUT_DIR))[0]
    cfg.DATASETS.COCO_JSON = [*cfg.DATASETS.COCO_JSON, *entries.values()]
    cfg.DATASETS.TRAIN = tuple(entry[0] for split, entry in entries.items() if split == "train")
    cfg.DATASETS.TEST = tuple(entry[0] for split, entry in entries.items() if split == "val")


def _given(args: argparse.Namespace, split: str) -> _Given:
    return _Given(split, *(getattr(args, f"{split}_{what}", None) or "" for what in ("json", "images", "dir")))


def _check(train: _Given, val: _Given, args: argparse.Namespace) -> None:
    """Raise ConfigError if flags contradict each other, or have no effect."""
    for x in (train, val):
        if x.json_file and x.folder:
            raise ConfigError(f"--{x.split}-json and --{x.split}-dir name two datasets: give one of them")
        if x.images and not x.source:
            raise ConfigError(f"--{x.split}-images needs --{x.split}-json: name the annotations of these images")
        if x.json_file and os.path.isdir(x.json_file):
            raise ConfigError(f"--{x.split}-json {x.json_file} is a folder: give it as --{x.split}-dir")
    if getattr(args, "class_names", None) and not (train.folder or val.folder):
        raise ConfigError(
            "--class-names is for --train-dir and --val-dir, since a json has names: leave it out, or correct the json"
        )
    if val.source and not train.source and not args.eval_only:
        raise ConfigError("--val-json has no --train-json: name the data to train on, or evaluate by --eval-only")


def _entries(given: Sequence[_Given], args: argparse.Namespace, output: str) -> dict[str, list[str]]:
    """Return the entry of ``DATASETS.COCO_JSON`` for each split."""
    entries: dict[str, list[str]] = {}
    names = getattr(args, "class_names", None)
    classes, others = read_class_names(names) if names else None, None
    for x in given:
        json_file, images = x.json_file, x.images or os.path.dirname(x.json_file) or "."
        if x.folder:
            json_file, images, others = _convert(x, classes, others, output)
        name = free_name(x.source, [entry[0] for entry in entries.values()], (json_file, images))
        entries[x.split] = [name, json_file, images]
    return entries


def _convert(
    given: _Given, classes: Sequence[str] | None, others: Sequence[str] | None, output: str
) -> tuple[str, str, list[str]]:
    """Write the json of a folder in any format; return its path, the folder of its images and the class names."""
    data = read_dataset(given.folder, "", given.images, classes, others)
    place = hashlib.sha256(os.fsencode(os.path.abspath(given.folder))).hexdigest()[:8]
    data = write_images_inside(data, os.path.join(output, FOLDER, f"{given.split}_images_{place}"))
    lost = [f"{name}: {count}" for name, count in sorted(data.lost.items()) if count]
    if lost:
        logger.warning("%s: %s", given.folder, name_some(lost))
    text = io.StringIO()
    write_coco_json(coco_content(data.images, data.class_names), text)
    # Named by its content, so that it never replaces the data of another training in this folder
    digest = hashlib.sha256(text.getvalue().encode("utf-8", "surrogateescape")).hexdigest()[:8]
    path = os.path.join(output, FOLDER, f"{given.split}_{digest}.json")
    if not os.path.exists(path):
        with atomic_write(path) as file:
            file.write(text.getvalue())
    return path, data.image_root, data.class_names
