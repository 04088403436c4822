"""Files of precomputed proposals: written, read by Detectron2, and checked."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import build_detection_test_loader

from centermask_solo import add_centermask_solo_config
from centermask_solo.data import proposals
from centermask_solo.data.datasets import register_datasets
from centermask_solo.data.loader import build_train_loader, load_dataset
from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.data.proposals import Proposals, check_proposals, read_proposals, write_proposals
from centermask_solo.utils.errors import ConfigError, DataError
from tests.data.coco_files import HEIGHT, write

FOUND = [
    Proposals(np.array([[0, 0, 10, 10], [2, 3, 12, 11]], np.float32), np.array([-1, 2], np.float32)),
    Proposals(np.array([[5, 5, 15, 15]], np.float32), np.array([0.5], np.float32)),
    Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)),
]


@pytest.fixture
def cfg(tmp_path):
    """The config of a Fast R-CNN on three small images with proposals."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.DATASETS.COCO_JSON = [["small", *write(tmp_path)]]
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("small",)
    register_datasets(cfg)
    path = str(tmp_path / "new" / "small.pkl")
    write_proposals(path, load_dataset("small"), FOUND, "by hand")
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = cfg.DATASETS.PROPOSAL_FILES_TEST = (path,)
    cfg.MODEL.LOAD_PROPOSALS = True
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.RANDOM_FLIP = (2 * HEIGHT,), 2 * HEIGHT, "none"
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 1, 0
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    return cfg


def test_proposals_reach_training_and_evaluation(cfg):
    check_proposals(cfg, for_training=True)
    expected = {1: [[4, 6, 24, 22], [0, 0, 20, 20]], 2: [[10, 10, 30, 30]], 3: []}  # best first, twice as large
    test = build_detection_test_loader(cfg, "small", mapper=InstanceMapper(cfg, is_train=False))
    train = build_train_loader(cfg, InstanceMapper(cfg, is_train=True))
    for batches in (test, (batch for batch, _ in zip(train, range(3), strict=False))):
        seen = {x["image_id"]: x["proposals"].proposal_boxes.tensor.tolist() for batch in batches for x in batch}
        assert seen == expected


def test_file_keeps_its_source_and_is_written_atomically(cfg, tmp_path):
    path = cfg.DATASETS.PROPOSAL_FILES_TEST[0]
    content = read_proposals(path)
    assert content["source"] == "by hand" and content["ids"] == [1, 2, 3]

    def interrupted():
        yield FOUND[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_proposals(path, load_dataset("small"), interrupted(), "x")
    assert read_proposals(path)["source"] == "by hand"
    assert os.listdir(os.path.dirname(path)) == ["small.pkl"]


def test_files_of_detectron1(tmp_path):
    path = tmp_path / "old.pkl"
    boxes, scores = ([getattr(x, name) for x in FOUND] for name in Proposals._fields)
    path.write_bytes(pickle.dumps({"indexes": ["1", 2, 3], "boxes": boxes, "scores": scores}, protocol=2))
    assert read_proposals(str(path))["ids"] == ["1", 2, 3]


def overwrite(cfg, path, **changes):
    with open(path, "wb") as file:
        pickle.dump({"ids": [1, 2, 3], "boxes": [x.boxes for x in FOUND]} | changes, file)


LOGITS = [x.objectness_logits for x in FOUND]


@pytest.mark.parametrize(
    "change, error, message",
    [
        (
            lambda cfg, path: os.remove(path),
            DataError,
            "the proposal file .*small.pkl is missing: create it with datasets/prepare_proposals.py",
        ),
        (
            lambda cfg, path: overwrite(cfg, path),
            DataError,
            "small.pkl is not a proposal file .KeyError: 'objectness_logits'",
        ),
        (
            lambda cfg, path: overwrite(cfg, path, objectness_logits=LOGITS[:2]),
            DataError,
            "small.pkl is not a proposal file",
        ),
        (
            lambda cfg, path: overwrite(cfg, path, objectness_logits=LOGITS[::-1]),
            DataError,
            "does not have 4 numbers per box and one",
        ),
        (
            lambda cfg, path: overwrite(cfg, path, objectness_logits=LOGITS, ids=[1, 7, 3]),
            DataError,
            "has no proposals for 1 of the 3 images of 'small' .such as id 2.",
        ),
        (lambda cfg, path: Path(path).write_text("boxes"), DataError, "small.pkl is not a proposal file"),
        (
            lambda cfg, path: overwrite(cfg, path, source=os.system),
            DataError,
            "small.pkl is not loaded .it holds a \\w+.system, which could run code",
        ),
        (
            lambda cfg, path: cfg.DATASETS.__setattr__("PROPOSAL_FILES_TEST", ()),
            ConfigError,
            "DATASETS.PROPOSAL_FILES_TEST names 0 files, but DATASETS.TEST 1 dataset",
        ),
        (
            lambda cfg, path: cfg.MODEL.__setattr__("LOAD_PROPOSALS", False),
            ConfigError,
            "MODEL.PROPOSAL_GENERATOR.NAME is 'PrecomputedProposals', but MODEL.LOAD_PROPOSALS is False",
        ),
    ],
)
def test_faults_are_found_before_training(cfg, change, error, message):
    change(cfg, cfg.DATASETS.PROPOSAL_FILES_TRAIN[0])
    with pytest.raises(error, match=message):
        check_proposals(cfg, for_training=False)


def test_url_that_cannot_be_fetched(monkeypatch):
    def unreachable(path):
        raise OSError("no route")

    monkeypatch.setattr(proposals.PathManager, "get_local_path", unreachable)
    with pytest.raises(DataError, match=r"detectron2://x\.pkl cannot be fetched \(no route\): create"):
        read_proposals("detectron2://x.pkl")
