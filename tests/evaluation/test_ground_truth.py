"""Perfect predictions have AP 100, whatever the annotation file leaves out or numbers in its own way."""

import json

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.datasets import load_dataset
from centermask_solo.evaluation import build_evaluator
from centermask_solo.utils.errors import DataError

HEIGHT, WIDTH = 72, 96
BOXES = [[8, 10, 30, 32], [52, 30, 30, 32]]


def dataset():
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (1, 2, 3, 4)],
        "annotations": [
            {
                "id": 2 * i + k + 1,
                "image_id": i + 1,
                "category_id": k + 1,
                "iscrowd": 0,
                "area": w * h,
                "bbox": [x, y, w, h],
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            }
            for i in range(4)
            for k, (x, y, w, h) in enumerate(BOXES)
        ],
        "categories": [{"id": 1, "name": "robin"}, {"id": 2, "name": "wren"}],
    }


@pytest.fixture
def evaluate(tmp_path):
    """A function that returns the results of perfect predictions on a json."""

    def run(data, masks=True, encoding="utf-8"):
        (tmp_path / "data.json").write_text(json.dumps(data), encoding=encoding)
        register_coco_instances("perfect", {}, str(tmp_path / "data.json"), str(tmp_path))
        cfg = get_cfg()
        add_centermask_solo_config(cfg)
        cfg.OUTPUT_DIR, cfg.MODEL.MASK_ON = str(tmp_path), masks
        samples = load_dataset("perfect")
        evaluator = build_evaluator(cfg, "perfect")
        assert MetadataCatalog.get("perfect").json_file == str(tmp_path / "data.json")
        evaluator.reset()
        for sample in samples:
            evaluator.process([sample], [{"instances": perfect(masks)}])
        return evaluator.evaluate()

    return run


def perfect(masks):
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_boxes = Boxes(torch.tensor([[x, y, x + w, y + h] for x, y, w, h in BOXES], dtype=torch.float32))
    instances.scores, instances.pred_classes = torch.tensor([0.9, 0.8]), torch.tensor([0, 1])
    if masks:
        instances.pred_masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
        for mask, (x, y, w, h) in zip(instances.pred_masks, BOXES, strict=True):
            mask[y : y + h, x : x + w] = True
    return instances


def renumber(first):
    return lambda i, x: x.update(id=first + i)


CHANGES = {
    "valid": lambda i, x: None,
    "ids from 0": renumber(0),
    "negative ids": renumber(-5),
    "ids as text": lambda i, x: x.update(id=str(x["id"])),
    "area missing": lambda i, x: x.pop("area"),
    "area null": lambda i, x: x.update(area=None),
    "area as text": lambda i, x: x.update(area=str(x["area"])),
    "iscrowd missing": lambda i, x: x.pop("iscrowd"),
    "iscrowd null": lambda i, x: x.update(iscrowd=None),
    "iscrowd as text": lambda i, x: x.update(iscrowd="0"),
    "iscrowd false": lambda i, x: x.update(iscrowd=False),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_perfect_predictions(evaluate, change):
    data = dataset()
    for i, x in enumerate(data["annotations"]):
        change(i, x)
    results = evaluate(data)
    assert results["bbox"]["AP"] == results["segm"]["AP"] == pytest.approx(100)
    assert results["segm"]["APs"] == pytest.approx(100)  # each area is 960, less than 32 x 32


def test_byte_order_mark(evaluate):
    assert evaluate(dataset(), encoding="utf-8-sig")["segm"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("value", [[], [[]], None, "missing"])
def test_data_without_masks_evaluates_boxes(evaluate, value):
    data = dataset()
    for x in data["annotations"]:
        x.pop("segmentation")
        x.pop("area")
        if value != "missing":
            x["segmentation"] = value
    results = evaluate(data, masks=False)
    assert results["bbox"]["AP"] == results["bbox"]["APs"] == pytest.approx(100)
    assert "segm" not in results


def test_a_class_without_objects_does_not_count(evaluate):
    data = dataset()
    data["categories"].append({"id": 3, "name": "crow"})
    assert evaluate(data)["segm"]["AP"] == pytest.approx(100)


def test_faults_are_refused_before_native_code_reads_them(evaluate):
    data = dataset()
    data["annotations"][0]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [5000, 5000]}
    with pytest.raises(DataError, match="1 x RLE whose counts do not sum to height x width, such as annotation 1"):
        evaluate(data)
