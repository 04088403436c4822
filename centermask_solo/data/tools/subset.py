"""Take a part of a dataset: some classes, some images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from ...utils.class_names import list_names
from ...utils.errors import ConfigError
from ...utils.files import claim_file
from ...utils.text import counted, nearest_hint
from ..own_files import is_federated
from .coco_files import read_whole, with_class_ids, write_part
from .split import Part


def subset_dataset(
    json_file: str,
    output: str,
    *,
    classes: Sequence[str] = (),
    pattern: str = "",
    min_objects: int = 0,
    count: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Part:
    """Write a json with a part of a dataset; ids and entries of what remains are unchanged.

    Only images annotated for some classes, as those of LVIS, keep no mention of classes that are left out, and the
    classes of such a file are numbered from 1.

    Args:
        json_file: Annotations in COCO's format.
        output: The json to write.
        classes: Names of the classes that remain, in the order of the file; all if empty.
        pattern: Which images may remain, by their paths, such as "night/*.jpg"; all if empty.
        min_objects: Images with fewer objects of these classes, crowds not counted, are left out.
        count: Number of images, chosen at random; all if None.
        seed: The same seed chooses the same images.
        overwrite: Whether the output may exist.

    Returns:
        What remains.

    Raises:
        UserError: The input cannot be read, there is no such class, too few images remain, or the output exists.
    """
    claim_file(output, [json_file], overwrite=overwrite)
    data = read_whole(json_file)
    names = {x["id"]: x["name"] for x in data.categories}
    unknown = [x for x in classes if x not in names.values()]
    if unknown:
        raise ConfigError(
            f"{json_file} has no class '{unknown[0]}'{nearest_hint(unknown[0], names.values())}: choose "
            f"from {list_names(list(names.values()))}"
        )
    kept = {i: name for i, name in names.items() if not classes or name in classes}
    objects = Counter(x["image_id"] for x in data.annotations if x["category_id"] in kept and not x.get("iscrowd", 0))
    images = [
        x
        for x in data.images
        if objects[x["id"]] >= min_objects and (not pattern or fnmatchcase(x["file_name"], pattern))
    ]
    if not images:
        raise ConfigError(f"no image of {json_file} fits: correct --images, or lower --min-objects")
    if len(images) < (count or 1):
        raise ConfigError(
            f"only {counted(len(images), 'image')} for --count, fewer than {count}: lower --count, or ask for less"
        )
    if count is not None:
        chosen = np.random.default_rng(seed).choice(len(images), count, replace=False)
        images = [images[i] for i in sorted(chosen.tolist())]
    ids = {x["id"] for x in images}
    annotations = [x for x in data.annotations if x["image_id"] in ids and x["category_id"] in kept]
    per_class = Counter(kept[x["category_id"]] for x in annotations)
    numbers = enumerate(kept, 1) if is_federated(data.images) else ((x, x) for x in kept)
    new_ids = {old: new for new, old in numbers}
    whole = data._replace(categories=[{**x, "id": new_ids[x["id"]]} for x in data.categories if x["id"] in kept])
    write_part(
        output,
        whole,
        [with_class_ids(x, new_ids) for x in images],
        ({**x, "category_id": new_ids[x["category_id"]]} for x in annotations),
    )
    return Part(output, len(images), len(annotations), {name: per_class[name] for name in kept.values()})
