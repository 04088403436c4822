"""The evaluator of each kind of dataset."""

import json

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator, DatasetEvaluators
from PIL import Image

from centermask_solo import add_centermask_solo_config
from centermask_solo.evaluation import (
    MaskScoreCOCOEvaluator,
    PanopticEvaluator,
    SemanticEvaluator,
    build_evaluator,
)
from centermask_solo.utils.errors import DataError


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
    [("cityscapes_instance", CityscapesInstanceEvaluator), ("cityscapes_sem_seg", CityscapesSemSegEvaluator)],
)
def test_cityscapes_uses_detectron2s_evaluators_where_its_package_is_installed(
    dataset, tmp_path, monkeypatch, kind, expected
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "cityscapesscripts" or None)
    MetadataCatalog.get(dataset).evaluator_type = kind
    assert type(build_evaluator(config(tmp_path), dataset)) is expected


def test_an_unknown_evaluator_type_is_an_error(dataset, tmp_path):
    MetadataCatalog.get(dataset).evaluator_type = "voc"
    with pytest.raises(DataError, match="voc"):
        build_evaluator(config(tmp_path), dataset)
