"""The stream of training batches is exact after resuming, for any number of workers."""

import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.utils import comm

from centermask_solo.config import default_config
from centermask_solo.data.coco_samples import CocoSamples
from centermask_solo.data.formats.coco import read_coco_json
from centermask_solo.data.loader import TrainLoader, build_train_loader, mix_seeds
from centermask_solo.data.validation import gate
from centermask_solo.data.validation.checks import check_datasets
from centermask_solo.utils.errors import ConfigError, DataError
from tests.data.coco_files import write

DATASET = [{"index": i, "width": 20 if i % 3 else 10, "height": 15} for i in range(7)]


def noise(sample):
    """A mapper that draws from every generator that an augmentation may use."""
    return sample | {"noise": (random.random(), float(np.random.rand()), float(torch.rand(())))}  # noqa: NPY002


def make(**options):
    from detectron2.data.samplers import TrainingSampler

    options = {"seed": 5, "batch_size": 2} | options
    return TrainLoader(DATASET, noise, build_sampler=lambda seed: TrainingSampler(len(DATASET), seed=seed), **options)


def take(loader, count, start_iter=0):
    loader.start_iter = start_iter
    return [batch for batch, _ in zip(loader, range(count), strict=False)]


@pytest.mark.parametrize("grouping", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_stream_equals_an_uninterrupted_one(grouping, num_workers):
    uninterrupted = take(make(aspect_ratio_grouping=grouping), 9)
    torch.rand(3)  # advances a global generator
    resumed = take(make(aspect_ratio_grouping=grouping, num_workers=num_workers), 5, start_iter=4)
    assert resumed == uninterrupted[4:]


def test_each_epoch_has_each_image_once_with_its_own_noise():
    samples = [sample for batch in take(make(), 7) for sample in batch]
    assert sorted(sample["index"] for sample in samples[:7]) == list(range(7))
    assert sorted(sample["index"] for sample in samples[7:]) == list(range(7))
    assert len({sample["noise"] for sample in samples}) == 14


def test_stream_depends_on_the_seed():
    assert take(make(seed=5), 3) == take(make(seed=5), 3)
    assert take(make(seed=5), 3) != take(make(seed=6), 3)
    assert mix_seeds(1, 2) != mix_seeds(2, 1)


def test_grouped_batches_have_one_orientation():
    for batch in take(make(aspect_ratio_grouping=True), 8):
        assert len({sample["width"] > sample["height"] for sample in batch}) == 1


def test_global_generators_are_restored():
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    def seed():
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)

    seed()
    expected = draw()
    seed()
    next(iter(make()))
    assert draw() == expected


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batches_of_one_process(monkeypatch, world_size):
    whole = take(make(batch_size=4), 6)
    parts = []
    for rank in range(world_size):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
        parts.append(take(make(batch_size=4 // world_size), 6))
    for iteration, batch in enumerate(whole):
        shared = [sample for part in parts for sample in part[iteration]]
        assert sorted(shared, key=str) == sorted(batch, key=str)


@pytest.fixture
def cfg():
    name = "loader_test"
    annotation = {"category_id": 0, "iscrowd": 0, "bbox": [0, 0, 5, 5], "bbox_mode": 1}
    DatasetCatalog.register(name, lambda: [sample | {"annotations": [annotation]} for sample in DATASET])
    cfg = default_config()
    cfg.DATASETS.TRAIN = (name,)
    cfg.SOLVER.IMS_PER_BATCH = 3
    cfg.SEED = 1
    cfg.DATALOADER.NUM_WORKERS = 0
    yield cfg
    DatasetCatalog.remove(name)


@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"])
def test_samplers_of_detectron2(cfg, sampler):
    cfg.DATALOADER.SAMPLER_TRAIN = sampler
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.1
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    batches = take(build_train_loader(cfg, noise), 6)
    assert {len(batch) for batch in batches} == {3}
    seen = {sample["index"] for batch in batches for sample in batch}
    assert len(seen) == (3 if sampler == "RandomSubsetTrainingSampler" else 7)
    assert take(build_train_loader(cfg, noise), 6) == batches


def test_images_of_rare_classes_repeat(cfg):
    """Class 1 is in one of the seven images: its repeat factor is the root of the threshold over 1/7."""
    common, rare = ({"category_id": c, "iscrowd": 0, "bbox": [0, 0, 5, 5], "bbox_mode": 1} for c in (0, 1))
    DatasetCatalog.remove("loader_test")
    samples = [x | {"annotations": [common] if x["index"] else [common, rare]} for x in DATASET]
    DatasetCatalog.register("loader_test", lambda: samples)
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.REPEAT_THRESHOLD = "RepeatFactorTrainingSampler", 4 / 7
    cfg.SOLVER.IMS_PER_BATCH = 1
    epoch = [batch[0]["index"] for batch in take(build_train_loader(cfg, noise), 8)]
    assert sorted(epoch) == [0, 0, *range(1, 7)]


def test_unknown_sampler_is_an_error(cfg):
    cfg.DATALOADER.SAMPLER_TRAIN = "Best"
    with pytest.raises(ConfigError, match=r"SAMPLER_TRAIN 'Best' is not supported: use TrainingSampler"):
        build_train_loader(cfg, noise)


def test_batch_size_must_be_divisible_by_the_processes(cfg, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(ConfigError, match=r"IMS_PER_BATCH is 3, which 2 processes"):
        build_train_loader(cfg, noise)


def test_a_dataset_without_objects_is_an_error(cfg):
    crowd = {"category_id": 0, "iscrowd": 1, "bbox": [0, 0, 5, 5], "bbox_mode": 1}
    DatasetCatalog.remove("loader_test")
    DatasetCatalog.register("loader_test", lambda: [sample | {"annotations": [crowd]} for sample in DATASET])
    with pytest.raises(DataError, match="no image of loader_test has an object to train on"):
        build_train_loader(cfg, noise)


def test_defects_while_loading_keep_their_traceback(cfg, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("a defect")

    monkeypatch.setattr("centermask_solo.data.loader.get_detection_dataset_dicts", fail)
    with pytest.raises(ValueError, match="a defect") as caught:
        build_train_loader(cfg, noise)
    assert type(caught.value) is ValueError


def test_a_json_is_read_once_for_checks_and_training_and_never_listed(tmp_path, monkeypatch):
    """A list of its samples would take several times the memory."""
    json_file, images = write(tmp_path)
    cfg = default_config()
    cfg.DATASETS.TRAIN = ("read_once",)
    register_coco_instances("read_once", {}, json_file, images)
    reads = []
    monkeypatch.setattr(gate, "read_coco_json", lambda path: reads.append(path) or read_coco_json(path))
    try:
        check_datasets(["read_once"], None, "")
        loader = build_train_loader(cfg, lambda sample: sample)
        samples = loader._samples.dataset
        assert reads == [json_file]
        assert isinstance(samples, CocoSamples)
        assert list(samples) == filter_images_with_only_crowd_annotations(
            load_coco_json(json_file, images, "read_once")
        )
        assert (loader.num_images, loader.num_objects) == (2, 3)
        assert take(loader, 1)[0][0]["annotations"]
    finally:
        DatasetCatalog.remove("read_once")
        MetadataCatalog.remove("read_once")
