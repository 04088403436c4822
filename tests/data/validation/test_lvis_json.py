"""LVIS's own json, whose images have no file_name, passes wherever a json is read."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.lvis import register_lvis_instances
from detectron2.structures import Boxes, Instances
from PIL import Image

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.datasets import load_dataset
from centermask_solo.data.formats.coco import lvis_file_name, read_coco_json
from centermask_solo.data.validation.checks import check_datasets
from centermask_solo.data.validation.report import check_dataset
from centermask_solo.evaluation import build_evaluator
from centermask_solo.utils.errors import DataError
from tests.data.validation.test_rules import BOXES, HEIGHT, WIDTH, dataset

NAME = "lvis_v1_mine"  # Detectron2 knows the classes by the beginning
needs_lvis = pytest.mark.skipif(importlib.util.find_spec("lvis") is None, reason="needs the package lvis")


def lvis_json():
    data = dataset()
    for x in data["images"]:
        x["coco_url"] = f"http://images.cocodataset.org/val2017/{x.pop('file_name')}"
        x |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for x in data["annotations"]:
        del x["iscrowd"]
    for x in data["categories"]:
        x["frequency"] = "f"
    return data


def write(folder, data):
    (folder / "val2017").mkdir(exist_ok=True)
    noise = np.random.default_rng(0)
    for i in range(1, 5):
        Image.fromarray(noise.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(folder / "val2017" / f"{i}.png")
    (folder / "data.json").write_text(json.dumps(data))
    return str(folder / "data.json"), str(folder)


def evaluate_perfect_predictions(name, folder):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.OUTPUT_DIR, cfg.MODEL.MASK_ON = str(folder), True
    samples = load_dataset(name)
    evaluator = build_evaluator(cfg, name)
    evaluator.reset()
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in BOXES], dtype=torch.float32)
    masks = torch.zeros(len(BOXES), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (x, y, w, h) in zip(masks, BOXES, strict=True):
        mask[y : y + h, x : x + w] = True
    found = {"scores": torch.ones(2), "pred_classes": torch.tensor([0, 1]), "pred_masks": masks}
    for sample in samples:
        evaluator.process([sample], [{"instances": Instances((HEIGHT, WIDTH), pred_boxes=Boxes(boxes), **found)}])
    results = evaluator.evaluate()
    return samples, {task: results[task]["AP"] for task in ("bbox", "segm")}


def paths_of(folder):
    return [str(folder / "val2017" / f"{i}.png") for i in range(1, 5)]


def test_as_coco_data(tmp_path):
    files = write(tmp_path, lvis_json())
    report = check_dataset(*files)
    assert report.ok
    warnings = {"image without 'file_name'": 4, "missing iscrowd": 8}
    assert {x.rule.title: x.count for x in report.warnings.values()} == warnings
    assert "such as val2017/1.png: named by the end of its 'coco_url'" in str(report)
    register_coco_instances("mine", {}, *files)
    check_datasets(["mine"], 2, "KEY")
    samples, ap = evaluate_perfect_predictions("mine", tmp_path)
    assert [x["file_name"] for x in samples] == paths_of(tmp_path)
    assert ap == pytest.approx({"bbox": 100, "segm": 100})


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        (None, "val2017/1.png"),
        ("COCO_val2014_1.png", "val2017/1.png"),
        ("1.png", "val2017/1.png"),
        ("other/2.png", "val2017/1.png"),
        ("may/val2017/1.png", "may/val2017/1.png"),
        ("may/1.png", "may/1.png"),
    ],
)
def test_the_url_comes_first_unless_the_same_file_is_in_another_folder(file_name, expected):
    image = {"coco_url": "http://images.cocodataset.org/val2017/1.png"} | (
        {"file_name": file_name} if file_name else {}
    )
    assert lvis_file_name(image) == expected
    assert lvis_file_name({"file_name": file_name}) == file_name


@needs_lvis
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("repaired", [False, True])
def test_as_lvis_data(tmp_path, slash, repaired):
    data = lvis_json()
    if repaired:  # LVIS 0.5 has file names, too, which are not those of the files; ids from 0 need a repaired copy
        for x in data["images"]:
            x["file_name"] = "COCO_val2014_0.jpg"
        for i, x in enumerate(data["annotations"]):
            x["id"] = i
    json_file, folder = write(tmp_path, data)
    register_lvis_instances(NAME, {}, json_file, folder + slash)
    report = check_dataset(NAME)
    assert report.ok
    assert len(report.warnings) == repaired
    check_datasets([NAME], None, "KEY")
    samples, ap = evaluate_perfect_predictions(NAME, tmp_path)
    assert [x["file_name"] for x in samples] == paths_of(tmp_path)
    assert ap == pytest.approx({"bbox": 100, "segm": 100})


def test_faults_of_lvis_data_are_refused(tmp_path):
    data = lvis_json()
    data["annotations"][0]["segmentation"] = [[0, 0, 1, float("nan"), 5, 5]]
    data["images"][2]["coco_url"] = "http://images.cocodataset.org/val2017/absent.png"
    register_lvis_instances(NAME, {}, *write(tmp_path, data))
    assert set(check_dataset(NAME).faults) == {"polygon with NaN or infinity", "missing image"}
    with pytest.raises(DataError, match="1 x polygon with NaN or infinity, such as annotation 1"):
        check_datasets([NAME], None, "KEY")


@pytest.mark.parametrize(
    "image", [{}, {"coco_url": 5}, {"coco_url": "1.png"}, {"file_name": None, "coco_url": "a/b/c/d"}]
)
def test_images_without_any_name_stay_a_fault(tmp_path, image):
    data = lvis_json()
    data["images"][1] = {"id": 2, "width": WIDTH, "height": HEIGHT, **image}
    assert (
        "image without an 'id' (number or string) and a string 'file_name'"
        in check_dataset(*write(tmp_path, data)).faults
    )


def test_a_file_name_comes_before_the_url(tmp_path):
    data = lvis_json()
    data["images"][0]["file_name"] = "own.png"
    read = read_coco_json(write(tmp_path, data)[0])
    assert [x["file_name"] for x in read.images] == ["own.png", "val2017/2.png", "val2017/3.png", "val2017/4.png"]
    assert read.num_named_by_url == 3


@pytest.mark.parametrize("where, key", [("images", "neg_category_ids"), ("categories", "frequency")])
def test_coco_data_that_is_registered_as_lvis_data(tmp_path, where, key):
    data = lvis_json()
    del data[where][1][key]
    register_lvis_instances(NAME, {}, *write(tmp_path, data))
    assert len(check_dataset(NAME).faults) == 1
    with pytest.raises(DataError, match=r"1 x .* 2.*: add it.*, or use the file as COCO data, by DATASETS.COCO_JSON"):
        check_datasets([NAME], None, "KEY")
