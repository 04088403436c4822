"""The COCO evaluator that ranks masks by mask scores."""

import json
import threading

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

from centermask_solo.evaluation import mask_score
from centermask_solo.evaluation.mask_score import MaskScoreCOCOEvaluator
from centermask_solo.structures.compact_masks import CompactMasks, CroppedMasks, RLEMasks

SIDE, OBJECT = 40, (10, 10, 20, 20)  # x, y, width, height


def square(number, image_id, box=OBJECT):
    x, y, w, h = box
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    annotation = {"id": number, "image_id": image_id, "category_id": 8, "bbox": list(box), "area": w * h, "iscrowd": 0}
    return annotation | {"segmentation": [polygon]}


@pytest.fixture(params=[[1, 2]], ids=str)
def dataset(tmp_path, request):
    """Two images, each with one square object of the second of two categories (ids 3 and 8)."""
    annotations = [square(number, i) for i, number in enumerate(request.param, start=1)]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": SIDE, "width": SIDE} for i in (1, 2)]
    categories = [{"id": 3, "name": "a"}, {"id": 8, "name": "b"}]
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories, "info": {}}))
    name = f"mask_score_{tmp_path.name}"
    register_coco_instances(name, {}, str(path), str(tmp_path))
    load_coco_json(str(path), str(tmp_path), name)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def hit_and_miss(mask_scores=(0.9, 0.2)):
    """The object, and a false positive of higher score beside it."""
    x, y, w, h = OBJECT
    instances = Instances((SIDE, SIDE))
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 30.0, 10.0, 40.0], [x, y, x + w, y + h]]))
    instances.scores, instances.pred_classes = torch.tensor([0.8, 0.6]), torch.tensor([1, 1])
    masks = np.zeros((2, SIDE, SIDE), dtype=bool)
    masks[0, 30:, :10], masks[1, y : y + h, x : x + w] = True, True
    instances.pred_masks = torch.from_numpy(masks)
    if mask_scores is not None:
        instances.mask_scores = torch.tensor(mask_scores[::-1])
    return instances


def evaluate(kind, dataset, outputs, **options):
    return run(kind(dataset, distributed=False, use_fast_impl=False, **options), outputs)


def run(evaluator, outputs):
    evaluator.reset()
    for image_id, instances in enumerate(outputs, start=1):
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


def test_masks_rank_by_mask_scores_and_boxes_by_scores(dataset):
    got = evaluate(MaskScoreCOCOEvaluator, dataset, [hit_and_miss(), hit_and_miss()])
    assert list(got) == ["bbox", "segm"]
    assert got["segm"]["AP50"] == pytest.approx(100)
    assert got["bbox"]["AP50"] == pytest.approx(50, abs=1)  # a false positive precedes each hit


@pytest.mark.parametrize("form", [CroppedMasks, RLEMasks])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_compact_masks_are_evaluated_like_a_tensor(dataset, monkeypatch, form, threads):
    """In any number of threads, of which none is left."""
    monkeypatch.setattr(mask_score, "threads_beside", lambda _: threads)
    monkeypatch.setattr(CompactMasks, "__iter__", lambda _: pytest.fail("masks were decoded"))
    expected = evaluate(COCOEvaluator, dataset, [hit_and_miss(mask_scores=None)] * 2)
    before, outputs = threading.active_count(), [hit_and_miss(mask_scores=None) for _ in range(2)]
    outputs[0].pred_masks = form.encode(outputs[0].pred_masks)
    evaluator = MaskScoreCOCOEvaluator(dataset, distributed=False, use_fast_impl=False)
    assert str(run(evaluator, outputs)) == str(expected)
    first, second = evaluator._predictions
    assert [x["segmentation"] for x in first["instances"]] == [x["segmentation"] for x in second["instances"]]
    assert threading.active_count() == before
    scored = hit_and_miss()
    scored.pred_masks = form.encode(scored.pred_masks)
    assert run(evaluator, [scored, scored])["segm"]["AP50"] == pytest.approx(100)


def test_without_mask_scores_it_equals_detectron2s_evaluator(dataset):
    outputs = [hit_and_miss(mask_scores=None) for _ in range(2)]
    got = evaluate(MaskScoreCOCOEvaluator, dataset, outputs)
    assert str(got) == str(evaluate(COCOEvaluator, dataset, outputs))  # as text, because nan is not equal to nan
    assert got["segm"]["AP50"] == pytest.approx(50, abs=1)


def test_detectron2s_evaluator_accepts_the_output(dataset):
    got = evaluate(COCOEvaluator, dataset, [hit_and_miss(), hit_and_miss()])
    assert got["segm"]["AP50"] == pytest.approx(50, abs=1)


def test_images_without_detections(dataset):
    empty = hit_and_miss()[torch.zeros(2, dtype=torch.bool)]
    got = evaluate(MaskScoreCOCOEvaluator, dataset, [empty, hit_and_miss()])
    assert got["segm"]["AP50"] == pytest.approx(50.5, abs=1)


def test_without_any_detections_metrics_are_zero_where_there_is_ground_truth(dataset, caplog):
    empty = hit_and_miss(mask_scores=None)[torch.zeros(2, dtype=torch.bool)]
    got = evaluate(MaskScoreCOCOEvaluator, dataset, [empty, empty])
    assert list(got) == ["bbox", "segm"]
    for metrics in got.values():
        assert [metrics[x] for x in ("AP", "AP50", "AP75", "APs", "AP-b")] == [0, 0, 0, 0, 0]
        assert all(np.isnan(metrics[x]) for x in ("APm", "APl", "AP-a"))
    assert "detected nothing in any image, so bbox AP is 0" in caplog.text
    with_detections = evaluate(MaskScoreCOCOEvaluator, dataset, [hit_and_miss(), empty])
    assert [set(x) for x in got.values()] == [set(x) for x in with_detections.values()]


def test_a_model_without_masks_that_detects_nothing_has_no_mask_metrics(dataset):
    empty = hit_and_miss(mask_scores=None)[torch.zeros(2, dtype=torch.bool)]
    empty.remove("pred_masks")
    assert list(evaluate(MaskScoreCOCOEvaluator, dataset, [empty, empty])) == ["bbox"]


@pytest.mark.parametrize("dataset", [[0, 1], ["a", "b"]], ids=str, indirect=True)
def test_perfect_predictions_have_ap_100_with_any_annotation_ids(dataset):
    perfect = hit_and_miss()[torch.tensor([False, True])]
    got = evaluate(MaskScoreCOCOEvaluator, dataset, [perfect, perfect])
    assert got["bbox"]["AP"] == got["segm"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("limit, recall", [(100, 100 / 144), (144, 1)])
def test_more_than_100_detections_of_an_image(tmp_path, limit, recall):
    boxes = [(3 * i, 3 * j, 2, 2) for i in range(12) for j in range(12)]
    annotations = [square(number, 1, box) for number, box in enumerate(boxes, start=1)]
    images, categories = [{"id": 1, "file_name": "1.jpg", "height": SIDE, "width": SIDE}], [{"id": 8, "name": "b"}]
    path = tmp_path / "many.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    name = f"many_{tmp_path.name}"
    register_coco_instances(name, {}, str(path), str(tmp_path))
    load_coco_json(str(path), str(tmp_path), name)
    instances = Instances(
        (SIDE, SIDE), pred_boxes=Boxes(torch.tensor([[x, y, x + 2.0, y + 2] for x, y, _, _ in boxes]))
    )
    instances.scores = torch.linspace(0.9, 0.1, len(boxes))
    instances.pred_classes = torch.zeros(len(boxes), dtype=torch.int64)
    got = evaluate(MaskScoreCOCOEvaluator, name, [instances], max_dets_per_image=limit)
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    assert got["bbox"]["AP"] == pytest.approx(100 * recall, abs=1)
    assert got["bbox"]["AP50"] == got["bbox"]["AP75"] == pytest.approx(100 * recall, abs=1)


def test_given_tasks_and_written_results(dataset, tmp_path):
    outputs = [hit_and_miss(), hit_and_miss()]
    assert list(evaluate(MaskScoreCOCOEvaluator, dataset, outputs, tasks=("segm",))) == ["segm"]
    assert list(evaluate(MaskScoreCOCOEvaluator, dataset, outputs, tasks=("bbox",))) == ["bbox"]
    evaluate(MaskScoreCOCOEvaluator, dataset, outputs, output_dir=str(tmp_path))
    written = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert {r["category_id"] for r in written} == {8}
    assert written[0]["score"] == pytest.approx(0.8) and written[0]["mask_score"] == pytest.approx(0.2)
