"""LVIS's metrics on hand-made predictions."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from centermask_solo.utils.errors import DataError

pytest.importorskip("lvis")

from centermask_solo.evaluation.lvis import MaskScoreLVISEvaluator

SIDE = 100
FREQUENCIES = "rrcf"  # of the categories 1, 2, 3, 4
BOX, ELSEWHERE = (10, 10, 30, 30), (60, 60, 90, 90)  # x0, y0, x1, y1


def annotation(number, image_id, category_id, box=BOX):
    x0, y0, x1, y1 = box
    ann = {"id": number, "image_id": image_id, "category_id": category_id, "area": (x1 - x0) * (y1 - y0)}
    return ann | {"bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}


class Dataset:
    """A json, whose content a test may change before it is written."""

    def __init__(self, folder):
        self.name, self.path = f"lvis_{folder.name}", folder / "lvis.json"
        images = [
            {"id": i, "coco_url": f"http://host/val2017/{i}.jpg", "height": SIDE, "width": SIDE} for i in (1, 2, 3)
        ]
        self.content = {
            "images": [x | {"neg_category_ids": [], "not_exhaustive_category_ids": []} for x in images],
            "annotations": [annotation(1, 1, 1), annotation(2, 1, 3), annotation(3, 1, 4), annotation(4, 2, 4)],
            "categories": [{"id": i, "name": f"c{i}", "frequency": x} for i, x in enumerate(FREQUENCIES, start=1)],
        }

    def write(self):
        self.path.write_text(json.dumps(self.content))
        MetadataCatalog.get(self.name).json_file = str(self.path)


@pytest.fixture
def dataset(tmp_path):
    """Three images, not yet written.

    Categories 1 (rare), 3 (common) and 4 (frequent) each have one object in image 1; category 4 one in image 2, too.
    """

    found = Dataset(tmp_path)
    yield found
    MetadataCatalog.remove(found.name)


def detections(*found):
    """(category, score) or (category, score, box, mask score) of each."""
    found = [(*x, BOX)[:3] + (x[3:] or (None,)) for x in found]
    boxes = torch.tensor([x[2] for x in found], dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros((len(found), SIDE, SIDE), dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    fields = {"pred_classes": torch.tensor([x[0] - 1 for x in found], dtype=torch.int64), "pred_masks": masks}
    if any(x[3] is not None for x in found):
        fields["mask_scores"] = torch.tensor([x[3] for x in found])
    return Instances((SIDE, SIDE), pred_boxes=Boxes(boxes), scores=torch.tensor([x[1] for x in found]), **fields)


def evaluate(dataset, *images, **options):
    dataset.write()
    evaluator = MaskScoreLVISEvaluator(dataset.name, distributed=False, **options)
    evaluator.reset()
    for image_id, found in enumerate(images, start=1):
        evaluator.process([{"image_id": image_id}], [{"instances": detections(*found)}])
    return evaluator.evaluate()


def test_perfect_predictions(dataset):
    got = evaluate(dataset, [(1, 0.9), (3, 0.8), (4, 0.9)], [(4, 0.7)], [])
    assert list(got) == ["bbox", "segm"]
    for metrics in got.values():
        for name in ("AP", "AP50", "AP75", "APs", "APr", "APc", "APf"):
            assert metrics[name] == pytest.approx(100), name
        assert np.isnan(metrics["APm"]) and np.isnan(metrics["APl"])  # 400 pixels each: all objects are small


def test_groups_by_frequency(dataset):
    """The rare class is found; the common one is missed; one of two objects of the frequent one is found."""
    got = evaluate(dataset, [(1, 0.9), (4, 0.9)], [(1, 0.8)], [])
    half = 100 * 51 / 101  # recalls 0, 0.01, ..., 0.50
    for metrics in got.values():
        assert metrics["APr"] == pytest.approx(100)  # category 2 has no ground truth and does not count
        assert metrics["APc"] == 0
        assert metrics["APf"] == pytest.approx(half)
        assert metrics["AP"] == pytest.approx((100 + 0 + half) / 3)


@pytest.mark.parametrize(
    "negative, not_exhaustive, expected",
    [([], [], 100), ([1], [], 50), ([1], [1], 100)],
    ids=["neither annotated nor negative", "negative", "not exhaustive"],
)
def test_false_positives_count_where_the_class_is_known_to_be_absent(dataset, negative, not_exhaustive, expected):
    dataset.content["images"][1] |= {"neg_category_ids": negative, "not_exhaustive_category_ids": not_exhaustive}
    got = evaluate(dataset, [(1, 0.5)], [(1, 0.9)], [])
    assert got["bbox"]["APr"] == got["segm"]["APr"] == pytest.approx(expected)


@pytest.mark.parametrize("not_exhaustive, expected", [([], 50), ([1], 100)])
def test_further_detections_of_a_class_that_is_not_annotated_exhaustively(dataset, not_exhaustive, expected):
    dataset.content["images"][0]["not_exhaustive_category_ids"] = not_exhaustive
    got = evaluate(dataset, [(1, 0.5), (1, 0.9, ELSEWHERE)])
    assert got["bbox"]["APr"] == got["segm"]["APr"] == pytest.approx(expected)


def test_masks_rank_by_mask_scores(dataset):
    got = evaluate(dataset, [(1, 0.5, BOX, 0.9), (1, 0.8, ELSEWHERE, 0.1)])
    assert got["bbox"]["APr"] == pytest.approx(50)
    assert got["segm"]["APr"] == pytest.approx(100)


def test_without_any_detections_metrics_are_zero_where_there_is_ground_truth(dataset, caplog):
    got = evaluate(dataset, [], [], [])
    assert list(got) == ["bbox", "segm"]
    for metrics in got.values():
        assert {x for x, value in metrics.items() if value == 0} == {
            *("AP", "AP50", "AP75", "APs"),
            *("APr", "APc", "APf"),
        }
        assert np.isnan(metrics["APm"]) and np.isnan(metrics["APl"])
    assert "detected nothing in any image" in caplog.text


def test_annotation_ids_from_zero(dataset):
    for number, x in enumerate(dataset.content["annotations"]):
        x["id"] = number
    got = evaluate(dataset, [(1, 0.9), (3, 0.8), (4, 0.9)], [(4, 0.7)], [])
    assert got["bbox"]["AP"] == got["segm"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("limit, expected", [(1, 0), (2, 100)])
def test_the_best_detections_of_an_image_count(dataset, limit, expected):
    got = evaluate(dataset, [(1, 0.5), (3, 0.9, ELSEWHERE)], max_dets_per_image=limit)
    assert got["bbox"]["APr"] == got["segm"]["APr"] == pytest.approx(expected)


def test_results_file_has_the_categories_of_the_dataset(dataset, tmp_path):
    evaluate(dataset, [(4, 0.5, BOX, 0.25)], output_dir=str(tmp_path / "out"))
    (written,) = json.loads((tmp_path / "out" / "lvis_instances_results.json").read_text())
    assert (written["category_id"], written["score"], written["mask_score"]) == (4, 0.5, 0.25)
    assert written["bbox"] == [10, 10, 20, 20]


@pytest.mark.parametrize("where, key", [("images", "neg_category_ids"), ("categories", "frequency")])
def test_a_json_that_is_only_coco_is_an_error(dataset, where, key):
    del dataset.content[where][1][key]
    with pytest.raises(DataError, match=rf"lvis.json is not in LVIS's format, because .* 2 lacks .*'{key}'"):
        evaluate(dataset, [])
