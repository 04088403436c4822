"""The evaluator of each kind of dataset."""

import json

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluators
from PIL import Image

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.datasets import load_dataset
from centermask_solo.evaluation import (
    MaskScoreCOCOEvaluator,
    PanopticEvaluator,
    SemanticEvaluator,
    build_evaluator,
    cityscapes,
)
from centermask_solo.training.setup import check_config
from centermask_solo.utils.errors import DataError, UserError


@pytest.fixture
def dataset(tmp_path):
    """The name of a dataset of one image with a semantic segmentation."""
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "1.png")
    json_file = tmp_path / "gt.json"
    images = [{"id": 1, "file_name": "1.jpg", "height": 8, "width": 8}]
    categories = [{"id": 1, "name": "a"}]
    json_file.write_text(json.dumps({"images": images, "annotations": [], "categories": categories, "info": {}}))
    name = f"build_{tmp_path.name}"
    record = {"file_name": "1.jpg", "sem_seg_file_name": str(tmp_path / "1.png"), "image_id": 1}
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).set(json_file=str(json_file), stuff_classes=["things", "sky"], ignore_label=255)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def config(tmp_path):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.OUTPUT_DIR = str(tmp_path)
    return cfg


def test_coco_datasets_rank_masks_by_mask_scores(dataset, tmp_path):
    assert type(build_evaluator(config(tmp_path), dataset)) is MaskScoreCOCOEvaluator


def test_panoptic_datasets_have_three_evaluators(dataset, tmp_path):
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps({"annotations": [], "categories": []}))
    ids = {"thing_dataset_id_to_contiguous_id": {1: 0}, "stuff_dataset_id_to_contiguous_id": {0: 0, 7: 1}}
    MetadataCatalog.get(dataset).set(panoptic_json=str(path), panoptic_root=str(tmp_path), **ids)
    MetadataCatalog.get(dataset).evaluator_type = "coco_panoptic_seg"
    evaluator = build_evaluator(config(tmp_path), dataset)
    assert type(evaluator) is DatasetEvaluators
    assert [type(e) for e in evaluator._evaluators] == [MaskScoreCOCOEvaluator, SemanticEvaluator, PanopticEvaluator]


def test_datasets_of_semantic_segmentation(dataset, tmp_path):
    MetadataCatalog.get(dataset).evaluator_type = "sem_seg"
    assert type(build_evaluator(config(tmp_path), dataset)) is SemanticEvaluator


@pytest.mark.parametrize(
    "kind, expected",
    [("cityscapes_instance", cityscapes.InstanceEvaluator), ("cityscapes_sem_seg", cityscapes.SemanticEvaluator)],
)
def test_cityscapes_is_evaluated_where_its_package_is_installed(dataset, tmp_path, monkeypatch, kind, expected):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "cityscapesscripts" or None)
    MetadataCatalog.get(dataset).evaluator_type = kind
    assert type(build_evaluator(config(tmp_path), dataset)) is expected


REFUSALS = [
    ("voc", {}, DataError, "evaluator_type 'voc', which is not one of coco, coco_panoptic_seg, lvis"),
    ("lvis", {}, UserError, "needs the package lvis: run 'pip install lvis --no-deps'"),
    ("cityscapes_instance", {}, UserError, "needs the package cityscapesscripts: run 'pip install cityscapesscripts'"),
    (
        "coco_panoptic_seg",
        {"panoptic_json": "absent.json"},
        DataError,
        "lacks its panoptic annotation file absent.json",
    ),
    ("coco_panoptic_seg", {"panoptic_root": "absent"}, DataError, "lacks its folder of panoptic images absent"),
]


@pytest.mark.parametrize("kind, metadata, error, message", REFUSALS)
def test_a_dataset_that_cannot_be_evaluated_is_refused_before_training(
    dataset, tmp_path, monkeypatch, kind, metadata, error, message
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    MetadataCatalog.get(dataset).set(evaluator_type=kind, **metadata)
    cfg = config(tmp_path)
    cfg.MODEL.DEVICE, cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = "cpu", (dataset,), (dataset,)
    with pytest.raises(error, match=message):
        check_config(cfg, for_training=True)
    with pytest.raises(error, match=message):
        build_evaluator(cfg, dataset)


def test_a_package_that_loading_needs_is_named(dataset):
    def load():
        raise ModuleNotFoundError("No module named 'lvis'", name="lvis")

    DatasetCatalog.remove(dataset)
    DatasetCatalog.register(dataset, load)
    with pytest.raises(UserError, match="needs the package lvis: run 'pip install lvis --no-deps'"):
        load_dataset(dataset)
