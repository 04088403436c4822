"""The ground truth of a dataset, as a model sees it in training, as a page to browse or a contact sheet."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from tqdm import tqdm

from ..data.coco_samples import Sample
from ..data.images import read_image
from ..data.loader import mix_seeds, seeded
from ..data.mapper import InstanceMapper
from ..data.mixing import with_mixing
from ..data.object_sizes import SIZES, size_name
from ..modeling.systems import find_system
from ..modeling.training_picture import rgb_picture
from ..utils.errors import ConfigError
from ..utils.files import claim_file
from ..utils.rules import value_of
from ..utils.spread import spread
from .contact_sheet import MAX_PANEL, check_picture_name, picture_sheet, shrink
from .drawing import ColorBy, draw_ground_truth, draw_training_sample
from .html_page import SUFFIXES, Figure, HTMLPage
from .labels import Picture

PAGE_SIDE = 640  # longer side of the pictures in a page, in pixels


@dataclass(frozen=True)
class View:
    """How a dataset is drawn.

    Attributes:
        augment: Whether images and objects are as training has them, or as they are in the files.
        seed: Seed of the augmentation.
        max_images: Most images, spread evenly over the dataset.
        color_by: What has a color of its own: each instance, or each class.
    """

    augment: bool = True
    seed: int = 0
    max_images: int = 48
    color_by: ColorBy = "instance"


def browse_dataset(
    cfg: CfgNode, name: str, samples: Sequence[Sample], path: str, view: View | None = None, *, overwrite: bool = False
) -> int:
    """Draw the ground truth of a dataset; return the number of images.

    Args:
        cfg: Config whose augmentation and input are used.
        name: Name of the dataset, which is registered.
        samples: Its samples in Detectron2's standard format.
        path: File to write: a page with pictures inside and filters if it ends with .html, otherwise a picture.
        view: How it is drawn.
        overwrite: Whether ``path`` is replaced if it exists.

    Raises:
        ConfigError: There are no images, or ``path`` exists, is an input, or has another extension.
        DataError: An image or an annotation cannot be used.
    """
    view = view or View()
    is_page = os.path.splitext(path)[1].lower() in SUFFIXES
    if not is_page:
        check_picture_name(path, SUFFIXES)
    if not len(samples):
        raise ConfigError(f"the dataset '{name}' has no images to draw")
    claim_file(path, (x["file_name"] for x in samples), overwrite=overwrite)
    chosen = [samples[i] for i in spread(len(samples), view.max_images)]
    mapper = with_mixing(cfg, _training_mapper(cfg), samples) if view.augment else None
    figures = _draw(cfg, mapper, MetadataCatalog.get(name), chosen, view, PAGE_SIDE if is_page else MAX_PANEL)
    figures = tqdm(figures, "images", total=len(chosen), mininterval=1.0, leave=False)
    if is_page:
        _write_page(path, name, len(samples), list(figures), mapper)
    else:
        drawn = list(figures)
        picture_sheet([x.picture for x in drawn], [x.caption for x in drawn], path)
    return len(chosen)


def _training_mapper(cfg: CfgNode) -> InstanceMapper:
    """Return the mapper of training, with masks as large as the image."""
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    side = value_of(cfg, system.input_size_key) if system is not None and system.input_size_key else None
    return InstanceMapper(cfg, is_train=True, input_size=None if side is None else (side, side))


def _draw(
    cfg: CfgNode, mapper: InstanceMapper | None, metadata: Metadata, chosen: Sequence[Sample], view: View, side: int
) -> Iterator[Figure]:
    """Yield a figure of each sample, whose longer side is at most ``side``."""
    names = metadata.get("thing_classes") or []
    for i, sample in enumerate(chosen):
        if mapper is None:
            image = read_image(sample["file_name"], "RGB", cfg.INPUT.MAX_IMAGE_PIXELS)
            picture = draw_ground_truth(shrink(image, side), sample, metadata, color_by=view.color_by)
            annotations = sample.get("annotations", [])
            found = [(x["category_id"], x["bbox"][2] * x["bbox"][3]) for x in annotations]  # as COCO has them
        else:
            with seeded(mix_seeds(view.seed, i)):
                mapped = mapper(sample)
            image, instances = _pixels(mapped["image"], cfg.INPUT.FORMAT), mapped["instances"]
            picture = draw_training_sample(shrink(image, side), instances, metadata, color_by=view.color_by)
            found = list(zip(instances.gt_classes.tolist(), instances.gt_boxes.area().tolist(), strict=True))
        name, (height, width) = os.path.basename(sample["file_name"]), image.shape[:2]
        number = f"{len(found) or 'no'} object{'' if len(found) == 1 else 's'}"
        objects = [{"class": names[c] if c < len(names) else str(c), "size": size_name(area)} for c, area in found]
        yield Figure(picture, f"{name}: {width} x {height}, {number}", name, objects)


def _pixels(image: Any, image_format: str) -> Picture:
    """Return a mapped image, (C, H, W), as a picture; changed brightness may exceed what a picture can show."""
    pixels = image.round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(rgb_picture(pixels, image_format))


def _write_page(path: str, name: str, total: int, figures: list[Figure], mapper: InstanceMapper | None) -> None:
    page = HTMLPage(f"{name}: ground truth")
    steps = [] if mapper is None else [*map(str, mapper.augmentations.augs), *getattr(mapper, "mixing", ())]
    seen = f"after {', '.join(steps)}" if steps else "as they are in the files"
    page.text(f"{len(figures)} of {total} images, {seen}. Sizes are COCO's, of the boxes in these images.")
    page.figures(figures, filters=True)
    page.heading("Objects in these images")
    objects = Counter((x["class"], x["size"]) for figure in figures for x in figure.objects)
    sizes = [size for size, _, _ in SIZES]
    classes = sorted({c for c, _ in objects}, key=lambda c: (-sum(objects[c, s] for s in sizes), c))
    rows = [[c, *(objects[c, s] for s in sizes), sum(objects[c, s] for s in sizes)] for c in classes]
    page.table(["class", *sizes, "all"], rows)
    page.write(path)
