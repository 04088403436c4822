"""The evaluators with the metrics of Cityscapes, on one hand-made image."""

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image

from centermask_solo.evaluation import cityscapes

pytest.importorskip("cityscapesscripts.helpers.csHelpers")

SIZE = (128, 256)
PERSON, CAR = (slice(40, 100), slice(50, 120)), (slice(20, 60), slice(150, 200))
INPUT = {"file_name": "leftImg8bit/val/city/city_000000_000000_leftImg8bit.png", "image_id": "city"}
ROAD_CLASS, PERSON_CLASS, CAR_CLASS = 0, 11, 13  # of the 19 classes of semantic segmentation


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A road, a person (class 0) and a car (class 2)."""
    labels = np.full(SIZE, 7)
    labels[PERSON], labels[CAR] = 24, 26
    instances = np.where(labels > 7, 1000 * labels, labels)
    folder = tmp_path / "gtFine" / "city"
    folder.mkdir(parents=True)
    Image.fromarray(labels.astype(np.uint8)).save(folder / "city_000000_000000_gtFine_labelIds.png")
    Image.fromarray(instances.astype(np.uint16)).save(folder / "city_000000_000000_gtFine_instanceIds.png")
    monkeypatch.chdir(tmp_path)
    name = f"cityscapes_{tmp_path.name}"
    classes = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    MetadataCatalog.get(name).set(gt_dir=str(tmp_path / "gtFine"), thing_classes=classes)
    yield name
    MetadataCatalog.remove(name)
    assert [x.name for x in tmp_path.iterdir()] == ["gtFine"]  # nothing is left in the working directory


@pytest.mark.parametrize("found, expected", [([PERSON, CAR], 100), ([PERSON], 50), ([], 0)])
def test_instances(dataset, found, expected):
    masks = torch.zeros(len(found), *SIZE, dtype=torch.bool)
    for mask, region in zip(masks, found, strict=True):
        mask[region] = True
    instances = Instances(SIZE, pred_masks=masks, pred_boxes=Boxes(torch.zeros(len(found), 4)))
    instances.scores, instances.pred_classes = (
        torch.tensor([0.9, 0.8])[: len(found)],
        torch.tensor([0, 2])[: len(found)],
    )
    evaluator = cityscapes.InstanceEvaluator(dataset)
    evaluator.reset()
    evaluator.process([INPUT], [{"instances": instances}])
    assert evaluator.evaluate() == {"segm": {"AP": expected, "AP50": expected}}


def test_semantic_segmentation(dataset):
    scores = torch.zeros(19, *SIZE)
    scores[ROAD_CLASS] = 1
    scores[PERSON_CLASS][PERSON] = 2  # the car is missed
    evaluator = cityscapes.SemanticEvaluator(dataset)
    evaluator.reset()
    evaluator.process([INPUT], [{"sem_seg": scores}])
    road, car = SIZE[0] * SIZE[1] - 60 * 70 - 40 * 50, 40 * 50
    expected = 100 * (road / (road + car) + 1 + 0) / 3
    assert evaluator.evaluate()["sem_seg"]["IoU"] == pytest.approx(expected)
