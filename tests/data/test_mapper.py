"""Masks of every kind reach the model, and errors name faulty files."""

import copy
from pathlib import Path

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BitMasks, BoxMode, PolygonMasks
from PIL import Image
from pycocotools import mask as rle

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.data.shapes.generator import generate_shapes
from centermask_solo.utils.errors import DataError
from tests.data import coco_files

WIDTH, HEIGHT = 40, 30


def mapper(mask_format="bitmask", *, is_train=True, augmentations=(), **options):
    """Build a mapper from a config, with the given augmentations instead of the config's."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = mask_format
    for key, value in options.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    made = InstanceMapper(cfg, is_train)
    made.augmentations = T.AugmentationList(list(augmentations))
    return made


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def annotation(segmentation, box=(4, 4, 20, 20), class_index=1, **more):
    x = {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": class_index, **more}
    return x if segmentation is None else {**x, "segmentation": segmentation}


def record(image, *annotations):
    return {
        "file_name": str(image),
        "image_id": 1,
        "height": HEIGHT,
        "width": WIDTH,
        "annotations": copy.deepcopy(list(annotations)),
    }


def ring_mask():
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[4:20, 4:20] = True
    mask[8:16, 8:16] = False
    return mask


def encoded(mask):
    return rle.encode(np.asfortranarray(mask, dtype=np.uint8))


SQUARE = [[4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]]
POLYGON, RING = annotation(SQUARE), annotation(encoded(ring_mask()), class_index=2)


def square_mask():
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[4:20, 4:20] = True
    return mask


def test_bitmasks_from_polygons_and_rles_with_holes(image):
    sample = mapper("bitmask")(record(image, POLYGON, RING))
    instances = sample["instances"]
    assert isinstance(instances.gt_masks, BitMasks)
    assert instances.gt_masks.tensor.dtype == torch.bool
    np.testing.assert_array_equal(instances.gt_masks.tensor.numpy(), [square_mask(), ring_mask()])
    assert instances.gt_classes.tolist() == [1, 2]
    assert instances.gt_boxes.tensor.tolist() == [[4, 4, 20, 20]] * 2
    assert sample["image"].shape == (3, HEIGHT, WIDTH)


def test_polygons_stay_polygons(image):
    masks = mapper("polygon")(record(image, POLYGON, POLYGON))["instances"].gt_masks
    assert isinstance(masks, PolygonMasks)
    assert masks.polygons[1][0].tolist() == SQUARE[0]


def test_an_rle_among_polygons_makes_bitmasks_of_the_whole_image(image):
    masks = mapper("polygon")(record(image, POLYGON, RING))["instances"].gt_masks
    assert isinstance(masks, BitMasks)
    np.testing.assert_array_equal(masks.tensor.numpy(), [square_mask(), ring_mask()])


@pytest.mark.parametrize("mask_format", ["bitmask", "polygon"])
def test_masks_follow_flips_and_resizes(image, mask_format):
    augmentations = [T.RandomFlip(prob=1.0), T.Resize((2 * HEIGHT, 2 * WIDTH))]
    instances = mapper(mask_format, augmentations=augmentations)(record(image, POLYGON, RING))["instances"]
    expected = [np.kron(m[:, ::-1], np.ones((2, 2))).astype(bool) for m in (square_mask(), ring_mask())]
    np.testing.assert_array_equal(instances.gt_masks.tensor.numpy(), expected)
    assert instances.gt_boxes.tensor.tolist() == [[40, 8, 72, 40]] * 2


@pytest.mark.parametrize("mask_format", ["bitmask", "polygon"])
def test_cropping_recomputes_boxes_and_drops_vanished_objects(image, mask_format):
    away = annotation([[30.0, 22.0, 38.0, 22.0, 38.0, 28.0, 30.0, 28.0]], box=(30, 22, 38, 28))
    crop = T.CropTransform(10, 6, 20, 12)
    made = mapper(mask_format, augmentations=[crop], INPUT__CROP__ENABLED=True)
    instances = made(record(image, POLYGON, away, RING))["instances"]
    assert instances.image_size == (12, 20)
    assert instances.gt_classes.tolist() == [1, 2]
    expected = [m[6:18, 10:30] for m in (square_mask(), ring_mask())]
    np.testing.assert_array_equal(instances.gt_masks.tensor.numpy(), expected)
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 10, 12]] * 2


def test_object_without_visible_pixels_is_dropped(image):
    corners = np.zeros((HEIGHT, WIDTH), dtype=bool)
    corners[0, 0] = corners[-1, -1] = True
    x = annotation(encoded(corners), box=(0, 0, WIDTH, HEIGHT))
    made = mapper(augmentations=[T.CropTransform(5, 5, 20, 20)])
    assert len(made(record(image, x))["instances"]) == 0


@pytest.mark.parametrize(("mask_format", "kind"), [("bitmask", BitMasks), ("polygon", PolygonMasks)])
def test_image_without_objects_has_empty_masks(image, mask_format, kind):
    instances = mapper(mask_format)(record(image))["instances"]
    assert isinstance(instances.gt_masks, kind)
    assert (len(instances), len(instances.gt_masks)) == (0, 0)
    assert instances.gt_boxes.tensor.shape == (0, 4)
    if kind is BitMasks:
        assert instances.gt_masks.tensor.shape == (0, HEIGHT, WIDTH)


def test_crowds_and_objects_without_mask_are_dropped(image):
    unmasked = annotation(None, class_index=3)
    crowd = annotation(encoded(ring_mask()), class_index=5, iscrowd=1)
    instances = mapper()(record(image, unmasked, crowd, POLYGON))["instances"]
    assert instances.gt_classes.tolist() == [1]


def test_boxes_only_where_no_masks_are_learned(image):
    made = mapper(MODEL__MASK_ON=False)
    instances = made(record(image, annotation(None, class_index=3), RING))["instances"]
    assert instances.gt_classes.tolist() == [3, 2]
    assert not instances.has("gt_masks")


def test_inference_samples_have_no_annotations(image):
    sample = mapper(is_train=False)(record(image, POLYGON))
    assert {"instances", "annotations"}.isdisjoint(sample)
    assert (sample["height"], sample["width"]) == (HEIGHT, WIDTH)


def test_the_dataset_is_not_modified(image):
    x = record(image, POLYGON, RING)
    before = copy.deepcopy(x)
    mapper()(x)
    assert x == before


def test_generated_shapes_are_mapped_exactly(tmp_path):
    folder = generate_shapes(tmp_path, "train", 10)
    dicts = load_coco_json(str(folder / "annotations.json"), str(folder / "images"), "mine")
    for x in dicts:
        masks = mapper("polygon")(x)["instances"].gt_masks
        expected = [rle.decode(a["segmentation"]) for a in x["annotations"] if not a["iscrowd"]]
        got = masks.tensor.numpy() if expected else np.zeros((len(masks), 0))
        np.testing.assert_array_equal(got, np.array(expected, dtype=bool).reshape(got.shape))


@pytest.mark.parametrize("is_train", [True, False])
def test_missing_image(image, is_train):
    x = record(image.with_name("gone.png"), POLYGON)
    with pytest.raises(DataError, match=r"the image .*gone\.png is missing: restore it, or remove it from the json"):
        mapper(is_train=is_train)(x)


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_damaged_image(image, content):
    image.write_bytes(image.read_bytes()[:200] if content is None else content)
    with pytest.raises(DataError, match=r"the image .*a\.png is damaged \(.*\): replace it") as caught:
        mapper()(record(image, POLYGON))
    assert "\n" not in str(caught.value)


def test_image_of_another_size(image):
    x = {**record(image, POLYGON), "width": HEIGHT, "height": WIDTH}
    with pytest.raises(DataError, match=r"a\.png has 40x30 pixels, but the json says 30x40 .* swapped: correct"):
        mapper()(x)


def test_rle_of_another_size(image):
    x = annotation(encoded(ring_mask().T))
    with pytest.raises(DataError, match=r"an RLE of .*a\.png is for 30x40 pixels, but the image has 40x30"):
        mapper()(record(image, x))


def test_valid_coco_file_end_to_end(tmp_path):
    dicts = load_coco_json(*coco_files.write(tmp_path), "mine")
    counts = [len(mapper(augmentations=[T.Resize((60, 80))])(x)["instances"]) for x in dicts]
    assert counts == [1, 1, 0]


def peak_memory(function):
    """Return the result of ``function`` and the peak increase of this process's memory, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    except OSError:
        pytest.skip("the peak memory cannot be measured on this system")

    def status(key):
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
        return 1024 * int(line.split()[1])

    before = status("VmRSS")
    result = function()
    return result, status("VmHWM") - before


def test_two_thousand_objects_need_little_more_memory_than_their_masks(image):
    """240 MB of masks; a list of them, its stack and its conversion would need three times as much."""
    x = record(image, *[annotation(encoded(ring_mask())) for _ in range(2000)])
    made = mapper(augmentations=[T.Resize((300, 400))])
    instances, peak = peak_memory(lambda: made(x)["instances"])
    assert len(instances) == 2000
    assert peak < 1.5 * instances.gt_masks.tensor.numel()
