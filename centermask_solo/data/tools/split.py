"""Divide a dataset at random into parts that have the same share of every class."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...utils.errors import ConfigError, DataError
from ...utils.files import claim_file, is_same
from ...utils.text import counted
from ..formats.coco import CocoData, read_coco_json
from ..formats.packing import Record
from .coco_files import read_whole, write_part


class Part(NamedTuple):
    """A part of a dataset.

    Attributes:
        file: The json.
        images: Number of images.
        objects: Number of objects.
        objects_of_class: Number of each class's objects.
    """

    file: str
    images: int
    objects: int
    objects_of_class: dict[str, int]


def split_dataset(
    json_file: str,
    output: str,
    ratios: Mapping[str, float],
    *,
    seed: int = 0,
    group_by: str = "",
    overwrite: bool = False,
) -> dict[str, Part]:
    """Write a json for each part of a dataset; images, ids and all entries are unchanged.

    Args:
        json_file: Annotations in COCO's format.
        output: Folder for the files, named after the parts, such as "train.json".
        ratios: Name of each part and its share of the images, in any unit.
        seed: The same seed makes the same parts.
        group_by: What must not be divided: "folder" for the images of a folder; a regular expression for those in whose
            path its first group, or else all that it matches, is the same; "" for nothing.
        overwrite: Whether the files may exist.

    Returns:
        What is in each part.

    Raises:
        UserError: The input cannot be read, an output exists or would have no image, or a part of the division that is
            replaced would stay.
    """
    if len(ratios) < 2 or any(not x > 0 for x in ratios.values()):
        raise ConfigError("give at least two parts with shares above 0, such as train=0.8 val=0.2")
    files = {name: os.path.join(output, f"{name}.json") for name in ratios}
    for path in files.values():
        claim_file(path, [json_file], overwrite=overwrite)
    data = read_whole(json_file)
    _check_earlier_parts(data, json_file, list(files.values()))
    names = {x["id"]: x["name"] for x in data.categories}
    classes_of: dict[object, Counter[str]] = defaultdict(Counter)
    for x in data.annotations:
        classes_of[x["image_id"]][names[x["category_id"]]] += 1
    groups: dict[str, list[Record]] = defaultdict(list)
    for image in data.images:
        groups[group_of(image["file_name"], group_by)].append(image)
    contents = [{name for x in group for name in classes_of[x["id"]]} for group in groups.values()]
    if group_by and not _matches_any(data.images, group_by):
        raise ConfigError(f"--group-by {group_by} matches no file_name of {json_file}: correct it")
    chosen = stratify([len(x) for x in groups.values()], contents, list(ratios.values()), seed)
    part_of = {x["id"]: part for part, group in zip(chosen, groups.values(), strict=True) for x in group}
    empty = [name for i, name in enumerate(ratios) if i not in chosen]
    if empty:
        raise ConfigError(
            f"the part {empty[0]} would have no image, of {counted(len(groups), 'group')} of images: leave it out"
        )
    found = {}
    for i, (name, path) in enumerate(files.items()):
        images = [x for x in data.images if part_of[x["id"]] == i]
        write_part(path, data, images, (x for x in data.annotations if part_of[x["image_id"]] == i))
        counts = sum((classes_of[x["id"]] for x in images), Counter[str]())
        per_class = {name: counts[name] for name in names.values()}
        found[name] = Part(path, len(images), counts.total(), per_class)
    return found


def _check_earlier_parts(data: CocoData, json_file: str, files: Sequence[str]) -> None:
    """Raise ConfigError if a part of the division that is replaced would stay, with images of the new parts.

    Such a file beside the parts has images of the dataset, but none of those in the files that are replaced.
    """
    replaced = [x for x in files if os.path.exists(x)]
    missing = {str(x["file_name"]) for x in data.images}
    earlier = set().union(*map(_image_names, replaced))
    if not replaced or missing <= earlier:
        return
    folder = os.path.dirname(files[0]) or "."
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not name.endswith(".json") or any(is_same(path, x) for x in (json_file, *files)):
            continue
        found = _image_names(path)
        if found & missing and not found & earlier:
            raise ConfigError(
                f"{path} is a part of the earlier division, whose images would be in two parts: remove it, or choose "
                "another folder"
            )


def _image_names(path: str) -> set[str]:
    """Return the names of the images in a file, those that have one; none if it is not COCO's."""
    try:
        return {str(x.get("file_name")) for x in read_coco_json(path).images}
    except DataError:
        return set()


def group_of(file_name: str, group_by: str) -> str:
    """Return what the images that must stay together have in common; see :func:`split_dataset`."""
    if not group_by:
        return file_name
    if group_by == "folder":
        return os.path.dirname(file_name.replace("\\", "/"))
    try:
        match = re.search(group_by, file_name)
    except re.error as error:
        raise ConfigError(f"--group-by {group_by} is not a regular expression ({error}): correct it") from error
    if match is None:
        return file_name
    return str(match.group(1) if match.re.groups else match.group(0))


def _matches_any(images: Sequence[Record], group_by: str) -> bool:
    return group_by == "folder" or any(re.search(group_by, x["file_name"]) for x in images)


def stratify(sizes: Sequence[int], classes: Sequence[set[str]], ratios: Sequence[float], seed: int) -> list[int]:
    """Return the part of each group of images, so that parts have similar shares of every class and of the images.

    Args:
        sizes: Number of images of each group.
        classes: Classes that occur in each group.
        ratios: Share of each part.
        seed: Of the order in which groups are looked at.

    Source: iterative stratification (Sechidis et al., ECML 2011): the rarest class first, each group to the part that
        still lacks the most of it, of those equal to the part that lacks the most images.
    Differs: a part that has its share of the images gets no more, which images of many rare classes would fill. The
        last groups go to the parts that have none.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(sizes)).tolist()
    order.sort(key=lambda i: -sizes[i])  # large groups first, while there is room
    weights = np.asarray(ratios, dtype=float) / sum(ratios)
    with_class: dict[str, list[int]] = defaultdict(list)
    for i in order:
        for name in classes[i]:
            with_class[name].append(i)
    total = {name: sum(sizes[i] for i in members) for name, members in with_class.items()}
    lacking = {name: weights * count for name, count in total.items()}
    lacking_images = weights * sum(sizes)
    part_of = [-1] * len(sizes)
    num_groups = np.zeros(len(ratios), dtype=int)  # of each part

    def assign(i: int, wanted: np.ndarray) -> None:
        room = lacking_images >= sizes[i] / 2  # a group that fits by less than half belongs to the next part
        if not room.any():
            room = lacking_images == lacking_images.max()
        empty = num_groups == 0
        if len(sizes) - num_groups.sum() <= empty.sum():
            room = empty
        best = np.flatnonzero(room & np.isclose(wanted, wanted[room].max()))
        part = int(best[lacking_images[best].argmax()])
        part_of[i] = part
        num_groups[part] += 1
        lacking_images[part] -= sizes[i]
        for name in classes[i]:
            lacking[name][part] -= sizes[i]

    for name in sorted(total, key=lambda name: (total[name], name)):
        for i in with_class[name]:
            if part_of[i] < 0:
                assign(i, lacking[name])
    for i in order:
        if part_of[i] < 0:
            assign(i, lacking_images)
    return part_of
