"""The table of results, and its files."""

import json

import pytest
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog

from centermask_solo.evaluation import build_evaluator, format_results, write_results
from centermask_solo.utils.errors import DataError, UserError

RESULTS = {
    "bbox": {"AP": 41.25, "AP50": 60.0, "AP-dog": 3.0},
    "segm": {"AP": float("nan"), "AP50": 55.5, "AP-dog": 1.0},
}


def test_table_has_one_row_per_task():
    lines = format_results(RESULTS).splitlines()
    assert [line.split() for line in lines] == [["AP", "AP50"], ["box", "41.25", "60.00"], ["mask", "-", "55.50"]]
    assert len({len(line) for line in lines}) == 1


def test_table_names_several_datasets():
    lines = format_results({"a": RESULTS, "b": {"bbox": {"AP": 1.0}}, "c": {}}).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["a", "box"], ["a", "mask"], ["b", "box"]]
    assert lines[3].split() == ["b", "box", "1.00", "-"]


def test_tasks_with_different_metrics_get_tables_of_their_own():
    results = RESULTS | {"sem_seg": {"mIoU": 0.0, "fwIoU": 1.0}, "panoptic_seg": {"PQ": 3.0}, "again": {"AP50": 2.0}}
    instances, semantic, panoptic = (text.splitlines() for text in format_results(results).split("\n\n"))
    assert [x.split()[0] for x in instances] == ["AP", "box", "mask", "again"]
    assert [x.split() for x in semantic] == [["mIoU", "fwIoU"], ["semantic", "0.00", "1.00"]]
    assert [x.split() for x in panoptic] == [["PQ"], ["panoptic", "3.00"]]


def test_long_names_of_metrics_stay_apart():
    header, row = format_results({"box_proposals": {"ARs@1000": 100.0, "ARm@1000": 0.0}}).splitlines()
    assert header.split() == ["ARs@1000", "ARm@1000"] and row.split() == ["box_proposals", "100.00", "0.00"]
    assert len(header) == len(row)


@pytest.mark.parametrize("results", [{}, {"coco": {}}])
def test_no_results(results):
    assert format_results(results) == "no results"


def test_files(tmp_path):
    path = write_results(RESULTS, str(tmp_path / "new"))
    with open(path) as file:
        content = json.load(file)
    assert content["bbox"] == RESULTS["bbox"]
    assert format_results(content) == format_results(RESULTS)
    assert content["segm"] == {"AP": None, "AP50": 55.5, "AP-dog": 1.0}
    assert (tmp_path / "new" / "evaluation.txt").read_text() == format_results(RESULTS) + "\n"


@pytest.fixture
def metadata():
    yield MetadataCatalog.get("evaluation_test")
    MetadataCatalog.remove("evaluation_test")


@pytest.mark.parametrize("limit, expected", [(20, 100), (100, 100), (300, 300)])
def test_coco_evaluates_all_detections_of_the_model(tmp_path, metadata, limit, expected):
    json_file = tmp_path / "x.json"
    json_file.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    metadata.json_file = str(json_file)
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.TEST.DETECTIONS_PER_IMAGE = limit
    evaluator = build_evaluator(cfg, "evaluation_test")
    assert evaluator._max_dets_per_image[-1] == expected


@pytest.mark.parametrize(
    "kind, error, message",
    [
        (
            "lvis",
            UserError,
            "'evaluation_test' needs the package lvis: run 'pip install lvis --no-deps'",
        ),
        ("cityscapes_instance", UserError, "run 'pip install cityscapesscripts'"),
        ("cityscapes_sem_seg", UserError, "run 'pip install cityscapesscripts'"),
        ("other", DataError, "evaluator_type 'other', which is not one of coco, coco_panoptic_seg, lvis"),
        ("coco_panoptic_seg", DataError, "lacks panoptic_json in its metadata"),
    ],
)
def test_missing_evaluators_are_errors(metadata, monkeypatch, kind, error, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    metadata.evaluator_type = kind
    with pytest.raises(error, match=message):
        build_evaluator(get_cfg(), "evaluation_test")
