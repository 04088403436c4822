"""Copy-paste and mosaic: every pixel of an image belongs to what its masks say, with holes and crowds."""

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import BitMasks, Boxes, Instances

from centermask_solo.config import default_config
from centermask_solo.data.loader import build_train_loader, seeded
from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.data.mixing import FILL, MixingMapper, mosaic, paste, with_mixing
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS
from tests.training.tiny import RecordingTrainer, register, write_dataset


def sample_of(image_value, masks, size, crowds=None, first_class=0):
    """An image of one value in which the pixels of mask i have the value plus 1 + i."""
    image = torch.full((3, *size), image_value, dtype=torch.uint8)
    instances = Instances(size, gt_masks=BitMasks(masks), gt_classes=torch.arange(len(masks)) + first_class)
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    instances.gt_is_crowd = torch.zeros(len(masks), dtype=torch.bool) if crowds is None else torch.tensor(crowds)
    for i, mask in enumerate(masks):
        image[:, mask] = image_value + 1 + i
    return {"image": image, "instances": instances, "file_name": f"{image_value}.png"}


def random_masks(seed, number, size):
    """Disjoint masks: rectangles with holes, one on top of the other."""
    generator = np.random.default_rng(seed)
    labels = np.full(size, -1)
    for i in range(number):
        y0, x0 = generator.integers(0, size[0] - 12), generator.integers(0, size[1] - 12)
        h, w = generator.integers(9, size[0] - y0 + 1), generator.integers(9, size[1] - x0 + 1)
        labels[y0 : y0 + h, x0 : x0 + w] = i
        labels[y0 + 3 : y0 + h - 3, x0 + 3 : x0 + w - 3] = -1
    return torch.stack([torch.from_numpy(labels == i) for i in range(number)])


def values_of(sample):
    """The value of each object's pixels, which is one; the image agrees with the masks everywhere."""
    found = []
    for mask in sample["instances"].gt_masks.tensor:
        values = sample["image"][:, mask].unique()
        assert len(values) == 1
        found.append(values.item())
    return found


def check(sample):
    """Boxes are those around the masks, none is empty, and no two overlap."""
    instances = sample["instances"]
    masks = instances.gt_masks.tensor
    assert instances.image_size == tuple(sample["image"].shape[1:]) == tuple(masks.shape[1:])
    assert masks.flatten(1).any(1).all() and masks.sum(0).max() <= 1
    assert torch.equal(instances.gt_boxes.tensor, instances.gt_masks.get_bounding_boxes().tensor)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("other_size", [(60, 50), (40, 80), (48, 64)])
def test_pasted_objects_hide_what_is_below(seed, other_size):
    size = (48, 64)
    base = sample_of(10, random_masks(seed, 4, size), size, [False, True, False, False])
    other = sample_of(100, random_masks(seed + 100, 5, other_size), other_size, first_class=10)
    rows = [0, 2, 3]
    before = base["image"].clone(), base["instances"].gt_masks.tensor.clone()
    mixed = paste(base, other, rows)
    check(mixed)
    h, w = min(size[0], other_size[0]), min(size[1], other_size[1])
    pasted = torch.zeros(5, *size, dtype=torch.bool)
    pasted[:, :h, :w] = other["instances"].gt_masks.tensor[:, :h, :w]
    cover = pasted[rows].any(0)
    # The image is the other one in the pasted masks, and the first one elsewhere, also in their holes
    assert torch.equal(mixed["image"][:, ~cover], before[0][:, ~cover])
    assert torch.equal(mixed["image"][:, :h, :w][:, cover[:h, :w]], other["image"][:, :h, :w][:, cover[:h, :w]])
    # Areas: what was pasted is whole, the rest has lost what is covered; what is empty is gone
    expected = {10 + 1 + i: int((m & ~cover).sum()) for i, m in enumerate(before[1])}
    expected |= {100 + 1 + i: int(pasted[i].sum()) for i in rows}
    areas = mixed["instances"].gt_masks.tensor.flatten(1).sum(1).tolist()
    assert dict(zip(values_of(mixed), areas, strict=True)) == {k: v for k, v in expected.items() if v}
    crowds = dict(zip(values_of(mixed), mixed["instances"].gt_is_crowd.tolist(), strict=True))
    assert all(is_crowd == (value == 12) for value, is_crowd in crowds.items())
    assert torch.equal(base["image"], before[0]) and torch.equal(base["instances"].gt_masks.tensor, before[1])


def test_an_object_that_is_covered_is_dropped():
    size = (20, 20)
    small = torch.zeros(2, *size, dtype=torch.bool)
    small[0, 5:9, 5:9] = small[1, 15:19, 15:19] = True
    large = torch.zeros(1, *size, dtype=torch.bool)
    large[0, 2:12, 2:12] = True
    mixed = paste(sample_of(10, small, size), sample_of(100, large, size, first_class=10), [0])
    assert mixed["instances"].gt_classes.tolist() == [1, 10]


@pytest.mark.parametrize("seed", range(12))
def test_a_mosaic_shows_windows_of_four_images(seed):
    sizes = [(48, 64), (30, 40), (80, 64), (48, 90)]
    samples = [
        sample_of(50 * i, random_masks(seed + 9 * i, 4, size), size, [True, False, False, False], 10 * i)
        for i, size in enumerate(sizes)
    ]
    with seeded(seed):
        mixed = mosaic(samples, (0.3 + seed / 30, 0.6 - seed / 40))
    check(mixed)
    assert mixed["image"].shape[1:] == sizes[0] and mixed["file_name"] == "0.png"
    values = values_of(mixed)
    for value, k, is_crowd, mask in zip(
        values,
        mixed["instances"].gt_classes.tolist(),
        mixed["instances"].gt_is_crowd.tolist(),
        mixed["instances"].gt_masks.tensor,
        strict=True,
    ):
        assert value == 50 * (k // 10) + 1 + k % 10 and is_crowd == (k % 10 == 0)
        assert int(mask.sum()) == int((mixed["image"][0] == value).sum())  # all of its pixels that are shown
    objects = {v for i in range(4) for v in range(50 * i + 1, 50 * i + 5)}
    assert set(values) == objects & set(mixed["image"].unique().tolist())  # only what is shown is left


def test_a_mosaic_is_gray_where_an_image_does_not_reach():
    none = torch.zeros(0, 40, 40, dtype=torch.bool)
    samples = [sample_of(10, none, (40, 40)), *(sample_of(20, none[:, :8, :8], (8, 8)) for _ in range(3))]
    image = mosaic(samples, (0.5, 0.5))["image"]
    assert (
        (image[:, :20, :20] == 10).all() and (image[:, :8, 20:28] == 20).all() and (image[:, 8:20, 20:] == FILL).all()
    )


def test_labels_of_pixels_are_mixed_like_pixels():
    size = (24, 24)
    samples = [sample_of(50 * i, random_masks(i, 2, size), size) for i in range(4)]
    for i, sample in enumerate(samples):
        sample["sem_seg"] = torch.full(size, i)
    mixed = mosaic(samples, (0.5, 0.5))
    assert torch.equal(mixed["sem_seg"], mixed["image"][0].long() // 50)
    pasted = paste(samples[0], samples[3], [0, 1])
    assert torch.equal(pasted["sem_seg"] == 3, pasted["image"][0] > 150)


def test_boxes_alone_are_cut_at_windows():
    samples = [sample_of(10, random_masks(i, 3, (40, 40)), (40, 40)) for i in range(4)]
    for sample in samples:
        sample["instances"].remove("gt_masks")
    boxes = mosaic(samples, (0.5, 0.5))["instances"].gt_boxes
    sides = boxes.tensor[:, 2:] - boxes.tensor[:, :2]
    assert isinstance(boxes, Boxes) and (sides > 1).all() and (sides <= 20).all()


@pytest.fixture
def cfg(tmp_path) -> CfgNode:
    write_dataset(tmp_path, num_images=6)
    register(tmp_path)
    cfg = default_config()
    cfg.merge_from_list(["DATASETS.TRAIN", ("tiny",), "SEED", 3, "SOLVER.IMS_PER_BATCH", 2, "MODEL.MASK_ON", True])
    cfg.merge_from_list(["INPUT.MIN_SIZE_TRAIN", (40, 52), "DATALOADER.NUM_WORKERS", 0, "SOLVER.MAX_ITER", 10])
    return cfg


def flat(lists):
    return [x for some in lists for x in some]


def batches(cfg, number=6):
    loader = iter(build_train_loader(cfg, InstanceMapper(cfg, is_train=True)))
    return [next(loader) for _ in range(number)]


@pytest.mark.parametrize("options", [("INPUT.COPY_PASTE.PROB", 1.0), ("INPUT.MOSAIC.PROB", 1.0)])
def test_mixing_in_workers_depends_on_the_seed_only(cfg, options):
    plain = batches(cfg)
    cfg.merge_from_list(list(options))
    single = batches(cfg)
    cfg.DATALOADER.NUM_WORKERS = 2
    several = batches(cfg)
    same = 0
    for a, b, c in zip(*map(flat, (single, several, plain)), strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["instances"].gt_masks.tensor, b["instances"].gt_masks.tensor)
        assert a["instances"].gt_masks.tensor.flatten(1).any(1).all()
        same += torch.equal(a["image"], c["image"])
    assert same < 6
    cfg.merge_from_list(["SEED", 4])
    assert not torch.equal(batches(cfg)[0][0]["image"], single[0][0]["image"])


def test_mosaics_end_before_the_training(cfg):
    cfg.merge_from_list(["INPUT.MOSAIC.PROB", 1.0, "INPUT.MOSAIC.OFF", 0.4])
    mixed = flat(batches(cfg, 10))
    cfg.INPUT.MOSAIC.OFF = 0.0
    mosaics = flat(batches(cfg, 10))
    same = [torch.equal(a["image"], b["image"]) for a, b in zip(mixed, mosaics, strict=True)]
    assert same == [True] * 12 + [False] * 8
    dataset = DatasetCatalog.get("tiny")
    cfg.SOLVER.EPOCHS, cfg.INPUT.MOSAIC.OFF = 5, 0.1
    assert with_mixing(cfg, InstanceMapper(cfg), dataset).mosaic_end == 27


def test_at_most_so_many_objects_are_pasted(cfg):
    cfg.merge_from_list(["INPUT.COPY_PASTE.PROB", 1.0, "INPUT.COPY_PASTE.MAX_OBJECTS", 2])
    size = (40, 40)
    samples = [sample_of(10 * i, random_masks(i, 9, size), size) | {"annotations": []} for i in range(3)]

    class Mapper:
        map = staticmethod(lambda sample: sample)
        finish = staticmethod(lambda sample: sample)
        min_box_size = 0.0

    mapper = with_mixing(cfg, Mapper(), samples)
    assert isinstance(mapper, MixingMapper)
    empty = sample_of(200, torch.zeros(0, *size, dtype=torch.bool), size)
    with seeded(0):
        counts = {len(mapper(empty)["instances"]) for _ in range(30)}
    assert max(counts) == 2  # fewer where the random masks hide one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("MODEL.MASK_ON", False, "INPUT.COPY_PASTE.PROB", 0.5), r"INPUT\.COPY_PASTE\.PROB needs masks"),
        (("MODEL.KEYPOINT_ON", True, "INPUT.MOSAIC.PROB", 0.5), r"mix neither proposals nor keypoints"),
        (
            ("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler", "INPUT.MOSAIC.PROB", 0.5),
            r"outside of the subset of DATALOADER\.RANDOM_SUBSET_RATIO: write one with 'centermask-solo data subset'",
        ),
        (("INPUT.MOSAIC.PROB", 0.5), r"mix images with their objects, but tiny has no objects: set INPUT\.COPY_PASTE"),
    ],
)
def test_what_cannot_be_mixed_is_refused(cfg, options, message):
    cfg.merge_from_list(list(options))
    with pytest.raises(ConfigError, match=message):
        with_mixing(cfg, None, [{"file_name": "a.png"}])


@pytest.mark.parametrize("options", [("INPUT.COPY_PASTE.PROB", 1.0), ("INPUT.MOSAIC.PROB", 1.0)])
def test_what_mixing_leaves_too_small_is_dropped(cfg, options):
    def smallest(found):
        return min(
            sides.min().item()
            for x in flat(found)
            if len(boxes := x["instances"].gt_boxes.tensor)
            for sides in [boxes[:, 2:] - boxes[:, :2]]
        )

    cfg.merge_from_list(list(options))
    some = smallest(batches(cfg, 10))
    cfg.INPUT.MIN_BOX_SIZE = some + 1.0
    assert smallest(batches(cfg, 10)) > some + 1.0


def test_yolact_learns_from_mixtures_of_ssds_augmentation(cfg, tmp_path):
    """With crowds, reduced masks, and mosaics that end."""
    ours = SYSTEMS["YOLACT"].cfg(num_classes=2)
    ours.merge_from_list(["DATASETS.TRAIN", ("tiny",), "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0])
    ours.merge_from_list(["INPUT.AUGMENTATION", "ssd", "INPUT.KEEP_CROWDS", True, "OUTPUT_DIR", str(tmp_path)])
    ours.merge_from_list(["INPUT.COPY_PASTE.PROB", 1.0, "INPUT.MOSAIC.PROB", 1.0, "INPUT.MOSAIC.OFF", 0.5])
    ours.merge_from_list(["SOLVER.IMS_PER_BATCH", 3, "SOLVER.MAX_ITER", 2, "SOLVER.STEPS", (), "SEED", 2])
    ours.merge_from_list(["SOLVER.REFERENCE_WORLD_SIZE", 0])
    torch.manual_seed(0)
    trainer = RecordingTrainer(ours)
    trainer.train()
    assert len(trainer.history) == 2 and all(np.isfinite(x["total_loss"]) for x in trainer.history)
    batch = trainer._trainer.batch
    assert all(x["image"].shape == (3, 128, 128) and x["instances"].gt_prototype_masks.any() for x in batch)
    assert max(len(x["instances"]) for x in batch) == 2  # a pasted object; of one image, there is no mosaic any more
