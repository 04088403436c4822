"""Masks after every augmentation, alone and mixed: exactly the pixels that show the object, with holes and crowds.

Each object has a color of its own, of channels that are full or empty, on black. Where a pixel is a mixture, at an
edge, the color is weaker; padding and noise are none of the colors. So a mask has to contain all pixels of the full
color, and none in which another channel is as strong: a filled hole or a lost part of a single pixel fails.
"""

import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as rle

from centermask_solo.config import default_config
from centermask_solo.data.loader import seeded
from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.data.mixing import with_mixing
from centermask_solo.ops.masks import reduce_masks

SIZE = (60, 80)
SEEDS = 25
RING, DOT = (slice(8, 48), slice(10, 60)), (slice(51, 57), slice(66, 74))
HOLE = (slice(16, 38), slice(20, 48))
COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)]  # of the classes
CROWDS = (3, 4)  # a dot and a ring


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three images with a ring and a dot each, of classes of their own."""
    folder, samples = tmp_path_factory.mktemp("rings"), []
    for i in range(3):
        pixels, annotations = np.zeros((*SIZE, 3), np.uint8), []
        for k, place in ((2 * i, RING), (2 * i + 1, DOT)):
            mask = np.zeros(SIZE, np.uint8, order="F")
            mask[place] = 1
            if place is RING:
                mask[HOLE] = 0
            pixels[mask == 1] = COLORS[k]
            code = rle.encode(mask)
            x = {"bbox": [*rle.toBbox(code)], "bbox_mode": BoxMode.XYWH_ABS, "segmentation": code}
            annotations.append(x | {"category_id": k, "iscrowd": int(k in CROWDS)})
        Image.fromarray(pixels).save(folder / f"{i}.png")
        samples.append({"file_name": str(folder / f"{i}.png"), "height": SIZE[0], "width": SIZE[1]})
        samples[-1]["annotations"] = annotations
    return samples


def mapper_of(dataset, *options, input_size=None, mask_sizes=None):
    cfg = default_config()
    cfg.merge_from_list(["MODEL.MASK_ON", True, "INPUT.FORMAT", "RGB", "INPUT.KEEP_CROWDS", True])
    cfg.merge_from_list(["INPUT.MIN_SIZE_TRAIN", (44, 60, 96), "INPUT.SSD.PHOTOMETRIC", False, *options])
    mapper = InstanceMapper(cfg, is_train=True, input_size=input_size, mask_sizes=mask_sizes)
    return with_mixing(cfg, mapper, dataset)


def mapped(mapper, dataset):
    """Samples by many seeds."""
    found = []
    for seed in range(SEEDS):
        with seeded(seed):
            found.append(mapper(dataset[seed % 3]))
    return found


def check(sample, whole):
    """See the text of this file.

    Args:
        sample: A sample.
        whole: Whether all that is shown of an object belongs to it. Otherwise an object may be missing, whose center is
            outside, and what the others show is looked for in their boxes.
    """
    image, instances = sample["image"], sample["instances"]
    masks, classes = instances.gt_masks.tensor, instances.gt_classes
    assert instances.image_size == tuple(image.shape[1:]) == tuple(masks.shape[1:])
    assert all(mask.any() for mask in masks) and (masks.sum(0) <= 1).all()
    assert instances.gt_is_crowd.tolist() == [k in CROWDS for k in classes.tolist()]
    for k, color in enumerate(COLORS):
        full = torch.tensor(color) == 255
        own = masks[classes == k].any(0)
        pure = (image[full] == 255).all(0) & (image[~full] == 0).all(0)
        if not whole:
            pure &= boxes_of(masks[classes == k])
        assert not (pure & ~own).any(), "a part of the object is lost"
        stronger = image[full].amin(0) > image[~full].amax(0)
        assert not (own & ~stronger).any(), "the mask has what is not the object"


def check_halves(sample, whole):
    """Of a mixture of an object and black, the mask has what is more than half the object."""
    masks, classes = sample["instances"].gt_masks.tensor, sample["instances"].gt_classes
    for k, color in enumerate(COLORS):
        full, own = torch.tensor(color) == 255, masks[classes == k].any(0)
        share = sample["image"][full].amin(0)
        assert not (own & (share < 126)).any()
        if whole:
            assert not ((share > 129) & (sample["image"][~full].amax(0) < 1) & ~own).any()


def boxes_of(masks):
    """The pixels inside of the boxes around masks."""
    found = torch.zeros(masks.shape[1:], dtype=torch.bool)
    for mask in masks:
        found |= mask.any(0) & mask.any(1)[:, None]  # rows and columns that it has pixels in
    return found


JITTER = ("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 96, "INPUT.LSJ.SCALES", (0.3, 2.5))
ERASE = ("INPUT.ERASE.PROB", 1.0, "INPUT.ERASE.AREA", (0.1, 0.9))
PASTE, MOSAIC = ("INPUT.COPY_PASTE.PROB", 1.0), ("INPUT.MOSAIC.PROB", 1.0)
CROP = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", (0.5, 0.5))


@pytest.mark.parametrize(
    ("options", "fewer", "more"),
    [
        pytest.param((), False, False, id="flip"),
        pytest.param(CROP, True, False, id="crop"),
        pytest.param(JITTER, True, False, id="jitter"),
        pytest.param(ERASE, True, False, id="erase"),
        pytest.param(PASTE, False, True, id="paste"),
        pytest.param(MOSAIC, False, True, id="mosaic"),
        pytest.param((*JITTER, *ERASE), True, False, id="jitter erase"),
        pytest.param((*PASTE, *MOSAIC), False, True, id="paste mosaic"),
        pytest.param((*JITTER, *ERASE, *PASTE, *MOSAIC), True, True, id="all"),
    ],
)
def test_masks_are_exact(dataset, options, fewer, more):
    numbers = []
    for sample in mapped(mapper_of(dataset, *options), dataset):
        check(sample, whole=True)
        instances = sample["instances"]
        numbers.append(len(instances))
        if options:  # without any, boxes are the annotated ones, resized
            assert torch.equal(instances.gt_boxes.tensor, instances.gt_masks.get_bounding_boxes().tensor)
    assert (min(numbers) < 2, max(numbers) > 2) == (fewer, more)  # of an image's two objects


@pytest.mark.parametrize("preset", ["weak", "medium", "strong"])
def test_colors_change_nothing_but_the_image(dataset, preset):
    plain, changed = mapper_of(dataset), mapper_of(dataset, "INPUT.COLOR", preset)
    same = 0
    for a, b in zip(*(mapped(x, dataset) for x in (plain, changed)), strict=True):
        same += torch.equal(a["image"], b["image"].to(torch.uint8))
        check({"image": a["image"], "instances": b["instances"]}, whole=True)
        assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
    assert same < SEEDS / 2  # each change is made to every second image


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_areas_and_holes_follow_the_scale_of_jitter(dataset, scale):
    """At half the scale, each mask has a quarter of its pixels, and its hole, too."""
    side = round(80 * max(scale, 1.0))
    options = ("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", side, "INPUT.LSJ.SCALES", (80 * scale / side,) * 2)
    for sample in mapped(mapper_of(dataset, *options), dataset):
        ring, dot = sample["instances"].gt_masks.tensor
        hole = boxes_of(ring[None]) & ~ring
        areas = [40 * 50 - 22 * 28, 6 * 8, 22 * 28]
        assert [int(x.sum()) for x in (ring, dot, hole)] == [x * scale**2 for x in areas]


# A crop of SSD's augmentation drops the objects whose center it does not show
SSD = ("INPUT.AUGMENTATION", "ssd", "INPUT.SSD.MIN_CROP", 1.0)
SSD_CROP = ("INPUT.AUGMENTATION", "ssd", "INPUT.SSD.MIN_CROP", 0.3)


@pytest.mark.parametrize("mixing", [(), PASTE, MOSAIC, (*PASTE, *MOSAIC, *ERASE)], ids=["", "paste", "mosaic", "all"])
@pytest.mark.parametrize("ssd", [SSD, SSD_CROP], ids=["expand", "crop"])
def test_masks_are_exact_in_and_after_ssds_augmentation(dataset, ssd, mixing):
    numbers = []
    for sample in mapped(mapper_of(dataset, *ssd, *mixing, input_size=(96, 96)), dataset):
        assert sample["image"].shape == (3, 96, 96) and sample["image"].dtype == torch.float32
        check(sample, whole=ssd is SSD)
        if "INPUT.ERASE.PROB" not in mixing:  # whose noise has any color
            check_halves(sample, whole=ssd is SSD)
        numbers.append(len(sample["instances"]))
    assert max(numbers) > 2 if mixing else max(numbers) <= 2


@pytest.mark.parametrize("mixing", [PASTE, MOSAIC])
def test_the_reduced_masks_of_a_model_are_those_of_the_mixed_image(dataset, mixing):
    sizes = {"gt_prototype_masks": (24, 24), "gt_sem_seg_masks": (12, 12)}
    made = [mapper_of(dataset, *SSD, *mixing, input_size=(96, 96), mask_sizes=x) for x in (None, sizes)]
    for a, b in zip(*(mapped(x, dataset) for x in made), strict=True):
        assert torch.equal(a["image"], b["image"]) and not b["instances"].has("gt_masks")
        assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
        for name, size in sizes.items():
            assert torch.equal(b["instances"].get(name), reduce_masks(a["instances"].gt_masks.tensor, size))
