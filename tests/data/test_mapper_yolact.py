"""What YOLACT's training needs of the mapper: crowds, one view of image and ground truth, reduced masks."""

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as rle

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.data.transforms.geometric import OneView, RandomCropKeepingCenters, ResizeTo, ViewAugmentation
from centermask_solo.data.transforms.view import View
from centermask_solo.ops.masks import reduce_masks
from centermask_solo.utils.errors import ConfigError

HEIGHT, WIDTH = 60, 80
SIZES = {64: (16, 8), 550: (138, 69)}  # of the model's input -> of the prototypes and of the semantic segmentation


def cfg_of(*overrides):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.MASK_ON = "YOLACT", True
    cfg.INPUT.AUGMENTATION, cfg.INPUT.KEEP_CROWDS, cfg.INPUT.FORMAT = "ssd", True, "RGB"
    cfg.merge_from_list(list(overrides))
    return cfg


class Fixed(ViewAugmentation):
    """Always the same rectangle, flipped."""

    def __init__(self, rectangle):
        self.rectangle = rectangle

    def choose(self, size, boxes):
        x0, y0, x1, y1 = self.rectangle
        return View(size, self.rectangle, (y1 - y0, x1 - x0), flipped=True, fill=(9.0,))


def model_sizes(side=64):
    """The training data that a model with inputs of this side states."""
    prototypes, sem_seg = SIZES[side]
    masks = {"gt_prototype_masks": (prototypes, prototypes), "gt_sem_seg_masks": (sem_seg, sem_seg)}
    return {"input_size": (side, side), "mask_sizes": masks}


def mapper(*overrides, view=None, side=64):
    made = InstanceMapper(cfg_of(*overrides), is_train=True, **model_sizes(side))
    if view is not None:
        made.augmentations = T.AugmentationList([OneView([Fixed(view), ResizeTo((64, 64))])])
    return made


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def annotation(box, class_index=0, *, crowd=False, polygon=False):
    x0, y0, x1, y1 = box
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[y0:y1, x0:x1] = 1
    segmentation = [[x0, y0, x1, y0, x1, y1, x0, y1]] if polygon else rle.encode(np.asfortranarray(mask))
    return {
        "bbox": list(box),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": class_index,
        "segmentation": segmentation,
        "iscrowd": int(crowd),
    }


def record(image, *annotations):
    return {"file_name": str(image), "height": HEIGHT, "width": WIDTH, "annotations": list(annotations)}


LEFT, RIGHT = (4, 6, 24, 30), (50, 20, 70, 40)


def test_crowds_are_kept_by_option(image):
    x = record(image, annotation(LEFT, 3), annotation(RIGHT, 5, crowd=True))
    whole = (0, 0, WIDTH, HEIGHT)
    instances = mapper(view=whole)(x)["instances"]
    assert instances.gt_is_crowd.tolist() == [False, True] and instances.gt_is_crowd.dtype == torch.bool
    assert instances.gt_classes.tolist() == [3, 5]
    dropped = mapper("INPUT.KEEP_CROWDS", False, view=whole)(x)["instances"]
    assert dropped.gt_classes.tolist() == [3] and not dropped.has("gt_is_crowd")
    empty = mapper(view=whole)(record(image))["instances"]
    assert empty.gt_is_crowd.shape == (0,) and empty.gt_is_crowd.dtype == torch.bool


@pytest.mark.parametrize("polygon", [False, True])
def test_image_boxes_and_masks_share_one_view(image, polygon):
    """Cropped to x = 10..42, which cuts off the object's left 6 columns, then flipped and resized by 2."""
    x = record(image, annotation(LEFT, polygon=polygon))
    made = mapper(view=(10, 0, 42, 32))
    sample = made(x)
    assert sample["image"].shape == (3, 64, 64) and sample["image"].dtype == torch.float32
    instances = sample["instances"]
    assert instances.image_size == (64, 64)
    assert instances.gt_boxes.tensor.tolist() == [[36, 12, 64, 60]]
    expected = torch.zeros(1, 64, 64, dtype=torch.bool)
    expected[0, 12:60, 36:64] = True
    assert not instances.has("gt_masks")
    for name, size in (("gt_prototype_masks", (16, 16)), ("gt_sem_seg_masks", (8, 8))):
        torch.testing.assert_close(instances.get(name), reduce_masks(expected, size))


def test_objects_stay_while_their_center_is_visible(image):
    """The center of LEFT is (14, 18), that of RIGHT (60, 30); a visible part of an object does not count."""
    x = record(image, annotation(LEFT, 1), annotation(RIGHT, 2), annotation(RIGHT, 3, crowd=True))
    assert mapper(view=(13, 0, 61, 60))(x)["instances"].gt_classes.tolist() == [1, 2, 3]
    assert mapper(view=(14, 0, 61, 60))(x)["instances"].gt_classes.tolist() == [2, 3]
    assert mapper(view=(13, 0, 60, 60))(x)["instances"].gt_classes.tolist() == [1]


def test_small_objects_are_dropped_by_option(image):
    x = record(image, annotation(LEFT, 1), annotation((40, 40, 43, 50), 2))
    view = (0, 0, WIDTH, HEIGHT)
    assert mapper(view=view)(x)["instances"].gt_classes.tolist() == [1, 2]
    assert mapper("INPUT.MIN_BOX_SIZE", 2.5, view=view)(x)["instances"].gt_classes.tolist() == [1]  # 2.4 wide


def test_crops_receive_the_objects_but_not_the_crowds(image):
    made = mapper()
    (view,) = [a for a in made.augmentations.augs if isinstance(a, OneView)]
    assert any(isinstance(a, RandomCropKeepingCenters) for a in view.augmentations)
    seen = []
    view.choose = lambda size, boxes: (seen.append(boxes.tolist()), View(size, (0, 0, *size[::-1]), (64, 64)))[1]
    x = record(image, annotation(LEFT), annotation(RIGHT, crowd=True))
    made(x)
    assert seen == [[[4, 6, 24, 30]]]
    assert x["annotations"][0]["bbox"] == list(LEFT)  # the dataset is not modified


def test_random_samples_are_valid(image):
    np.random.seed(0)  # noqa: NPY002
    x = record(image, annotation(LEFT, 1), annotation(RIGHT, 2, polygon=True), annotation(RIGHT, 3, crowd=True))
    made = mapper()
    counts = []
    for _ in range(60):
        sample = made(x)
        instances = sample["instances"]
        boxes = instances.gt_boxes.tensor
        assert sample["image"].shape == (3, 64, 64) and sample["image"].isfinite().all()
        assert ((boxes >= 0) & (boxes <= 64)).all() and instances.gt_boxes.nonempty().all()
        assert instances.gt_prototype_masks.shape == (len(instances), 16, 16)
        assert (~instances.gt_is_crowd).any()
        counts.append(len(instances))
    assert {1, 3} <= set(counts)


def test_masks_are_reduced_to_the_sizes_of_the_model(image):
    instances = mapper(side=550)(record(image, annotation(LEFT), annotation(RIGHT)))["instances"]
    assert instances.image_size == (550, 550) and not instances.has("gt_masks")
    assert instances.gt_prototype_masks.shape == (len(instances), 138, 138)
    assert instances.gt_sem_seg_masks.shape == (len(instances), 69, 69)


def test_without_masks_none_are_reduced(image):
    instances = mapper("MODEL.MASK_ON", False)(record(image, annotation(LEFT)))["instances"]
    assert set(instances.get_fields()) == {"gt_boxes", "gt_classes", "gt_is_crowd"}


def test_default_augmentation_keeps_masks_at_full_size(image):
    made = mapper("INPUT.AUGMENTATION", "default", "INPUT.MIN_SIZE_TRAIN", (0,))
    instances = made(record(image, annotation(LEFT), annotation(RIGHT, crowd=True)))["instances"]
    assert instances.gt_masks.tensor.shape == (2, HEIGHT, WIDTH) and instances.gt_is_crowd.tolist() == [False, True]


def test_inference_keeps_the_image(image):
    made = InstanceMapper(cfg_of("INPUT.MIN_SIZE_TEST", 0), is_train=False)
    sample = made(record(image, annotation(LEFT)))
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0).numpy(), np.asarray(Image.open(image)))


def test_ssd_needs_a_fixed_input_size():
    message = (
        r"INPUT.AUGMENTATION 'ssd' needs a model with a fixed input size, which SOLOv2 does not have: set .* default"
    )
    with pytest.raises(ConfigError, match=message):
        InstanceMapper(cfg_of("MODEL.META_ARCHITECTURE", "SOLOv2"), is_train=True)


def test_an_unknown_augmentation_is_an_error():
    with pytest.raises(ConfigError, match="must be 'default' or 'ssd', not 'autoaugment'"):
        mapper("INPUT.AUGMENTATION", "autoaugment")
