"""Large-scale jitter, colors and random erasing; that masks stay exact is tested in ``test_exact_masks.py``."""

import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as rle

from centermask_solo.config import default_config
from centermask_solo.data.loader import seeded
from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.data.transforms.erase import Erase
from centermask_solo.data.transforms.options import with_options
from centermask_solo.utils.errors import ConfigError

RING = np.zeros((60, 80), dtype=np.uint8)
RING[10:50, 10:60] = 1
RING[20:40, 20:50] = 0
DOT = np.zeros((60, 80), dtype=np.uint8)
DOT[52:56, 70:74] = 1


@pytest.fixture
def sample(tmp_path):
    """A gray image in which the ring is white and the dot is black."""
    pixels = np.full((60, 80, 3), 100, dtype=np.uint8)
    pixels[RING == 1] = 255
    pixels[DOT == 1] = 0
    Image.fromarray(pixels).save(tmp_path / "image.png")
    annotations = []
    for k, mask in enumerate((RING, DOT)):
        code = rle.encode(np.asfortranarray(mask))
        box = list(rle.toBbox(code))
        annotations.append(
            {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": k, "segmentation": code, "iscrowd": 0}
        )
    return {"file_name": str(tmp_path / "image.png"), "height": 60, "width": 80, "annotations": annotations}


def make_cfg(*options):
    cfg = default_config()
    cfg.merge_from_list(["MODEL.MASK_ON", True, "INPUT.MIN_SIZE_TRAIN", (60,), "INPUT.RANDOM_FLIP", "none", *options])
    return cfg


def mapped(cfg, sample, seed):
    with seeded(seed):
        return InstanceMapper(cfg, is_train=True)(sample)


def test_large_scale_jitter_has_its_range(sample):
    """At half the scale of the square, the image has a quarter of its pixels, wherever it is."""
    cfg = make_cfg("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 160, "INPUT.LSJ.SCALES", (0.5, 0.5))
    found = mapped(cfg, sample, 0)
    (area, _) = found["instances"].gt_masks.tensor.flatten(1).sum(1).tolist()
    assert area == RING.sum() == 1400  # 80 pixels wide again
    assert (found["image"][:, 60:] == 128).all() and not found["instances"].gt_masks.tensor[:, 60:].any()


@pytest.mark.parametrize(("height", "width"), [(1, 1000), (1000, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_large_scale_jitter_leaves_a_pixel_of_a_strip(height, width, dtype):
    cfg = make_cfg("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 64, "INPUT.LSJ.SCALES", (0.1, 0.1))
    image = np.full((height, width, 3), 200, dtype)
    resized = with_options(cfg, [])[0].get_transform(image).apply_image(image)
    assert resized.dtype == dtype and resized.shape[:2] in ((1, 6), (6, 1)) and (resized == 200).all()


@pytest.mark.parametrize("seed", range(10))
def test_erased_pixels_belong_to_no_object(sample, seed):
    cfg = make_cfg("INPUT.ERASE.PROB", 1.0, "INPUT.ERASE.AREA", (0.1, 0.6))
    plain, erased = mapped(make_cfg(), sample, seed), mapped(cfg, sample, seed)
    changed = (plain["image"] != erased["image"]).any(0)
    rows, columns = changed.nonzero().unbind(1)
    rectangle = torch.zeros_like(changed)
    rectangle[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    before, after = plain["instances"], erased["instances"]
    expected = {k: m & ~rectangle for k, m in zip(before.gt_classes.tolist(), before.gt_masks.tensor, strict=True)}
    expected = {k: m for k, m in expected.items() if m.any()}  # an object that is erased is gone
    assert after.gt_classes.tolist() == list(expected)
    assert all(
        torch.equal(m, expected[k]) for k, m in zip(after.gt_classes.tolist(), after.gt_masks.tensor, strict=True)
    )
    assert torch.equal(after.gt_boxes.tensor, after.gt_masks.get_bounding_boxes().tensor)
    assert 0.05 < rectangle.float().mean() < 0.7


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "options",
    [("INPUT.ERASE.PROB", 1.0), ("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 64, "INPUT.LSJ.SCALES", (1.0, 2.0))],
)
def test_crowds_stay_crowds_where_objects_are_dropped(sample, seed, options):
    sample["annotations"][1]["iscrowd"] = 1
    found = mapped(make_cfg("INPUT.KEEP_CROWDS", True, *options), sample, seed)["instances"]
    assert found.gt_is_crowd.tolist() == (found.gt_classes == 1).tolist()
    assert found.gt_masks.tensor.flatten(1).any(1).all()


def test_an_erased_object_is_dropped(sample, monkeypatch):
    whole = Erase((66, 50, 80, 60), np.zeros((10, 14, 3)))
    from centermask_solo.data.transforms import options

    monkeypatch.setattr(options.RandomErase, "get_transform", lambda self, image: whole)
    found = mapped(make_cfg("INPUT.ERASE.PROB", 1.0), sample, 0)
    assert found["instances"].gt_classes.tolist() == [0]


def test_nothing_is_erased_without_the_option(sample):
    assert mapped(make_cfg(), sample, 1)["image"].unique().tolist() == [0, 100, 255]


@pytest.mark.parametrize("preset", ["weak", "medium", "strong"])
def test_colors_change_with_their_preset(sample, preset):
    plain = mapped(make_cfg(), sample, 0)
    images = [mapped(make_cfg("INPUT.COLOR", preset), sample, seed)["image"] for seed in range(20)]
    change = max((x - plain["image"]).abs().mean().item() for x in images)
    limits = {"weak": (5, 60), "medium": (30, 130), "strong": (60, 300)}
    low, high = limits[preset]
    assert low < change < high
    masks = mapped(make_cfg("INPUT.COLOR", preset), sample, 0)["instances"].gt_masks.tensor
    assert torch.equal(masks, plain["instances"].gt_masks.tensor)


def test_jitter_and_crops_contradict_each_other(sample):
    cfg = make_cfg("INPUT.LSJ.ENABLED", True, "INPUT.CROP.ENABLED", True)
    with pytest.raises(ConfigError, match=r"^INPUT\.LSJ\.ENABLED resizes and crops itself"):
        mapped(cfg, sample, 0)
