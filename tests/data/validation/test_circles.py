"""What the report lists is refused, and what passes is loaded, mapped and evaluated without losing an object."""

import copy
import json
import math
import random

import pytest
from detectron2.config import get_cfg
from detectron2.data.datasets import register_coco_instances

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.datasets import load_dataset
from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.data.validation.checks import check_datasets
from centermask_solo.data.validation.report import check_dataset
from centermask_solo.evaluation import build_evaluator
from centermask_solo.utils.errors import DataError
from tests.data.validation.test_rules import HEIGHT, WIDTH, dataset, write

FIELDS = {
    "annotations": ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "keypoints", "ignore"],
    "images": ["id", "file_name", "width", "height"],
    "categories": ["id", "name", "supercategory"],
}
SIZE = [HEIGHT, WIDTH]
VALUES = [None, True, False, 0, 1, -1, 2, 5, 1.5, math.nan, math.inf, 2**40, 2**70, 1e308, "", "0", "1", "é", "b'x'"]
VALUES += [[], [[]], [[[]]], {}, {"size": SIZE}, {"size": None, "counts": None}, [1, [2]], [None], [[None] * 6]]
VALUES += [{"size": SIZE, "counts": x} for x in ([6912], "o", [0, 6912, 0], [6912, -1, 1], [2**70], "0")]
VALUES += [[0, 0, 0, 0], [-5, -5, 5, 5], [95, 71, 1, 1], [WIDTH, HEIGHT, 1, 1], ["1", 2, 3, 4], [1e308] * 4]
VALUES += [[[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6]], [[0, 0, 10, 0, 10, 10], []], [[0, 0, 1e9, 0, 1e9, 1e9]], [[0] * 6]]
VALUES += [[[1, 2], [3, 4], [5, 6]], [{"size": SIZE, "counts": [6912]}], [[0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]]]


def mutate(data, rng):
    """Set or delete a field of one entry, or of all; in a large dataset, the faults of one are rare."""
    part = rng.choice(["annotations", "annotations", "annotations", "images", "categories"])
    key, value = rng.choice(FIELDS[part]), rng.choice(VALUES)
    for x in [rng.choice(data[part])] if rng.random() < 0.8 else data[part]:
        x[key] = copy.deepcopy(value)
        if rng.random() < 0.1:
            del x[key]
    if rng.random() < 0.7:
        more = dataset()["annotations"]
        data["annotations"] += [{**more[i % 8], "id": 1000 + i} for i in range(120)]
    return data


@pytest.mark.parametrize("seed", range(60))
def test_report_and_refusal_agree_and_what_passes_works(tmp_path, seed):
    rng = random.Random(seed)
    valid = write(tmp_path, dataset())
    data = mutate(dataset(), rng)
    (tmp_path / "data.json").write_text(json.dumps(data))
    register_coco_instances("mine", {}, *valid)
    ok = check_dataset(*valid).ok
    if not ok:
        with pytest.raises(DataError):
            check_datasets(["mine"], None, "KEY")
        return
    check_datasets(["mine"], None, "KEY")
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.OUTPUT_DIR, cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT = str(tmp_path), True, "bitmask"
    samples = load_dataset("mine")
    mapper = InstanceMapper(cfg, True)
    num_objects = sum(not x["iscrowd"] for sample in samples for x in sample["annotations"])
    assert sum(len(mapper(copy.deepcopy(x))["instances"]) for x in samples) == num_objects > 0
    coco = build_evaluator(cfg, "mine")._coco_api
    assert sum(not x["iscrowd"] for x in coco.dataset["annotations"]) == num_objects
    assert all(coco.annToMask(x).any() and x["id"] > 0 for x in coco.dataset["annotations"])
