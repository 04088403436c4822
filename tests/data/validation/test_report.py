"""The report on a dataset has its statistics and names every fault."""

import json

import pytest
from detectron2.data.datasets import register_coco_instances

from centermask_solo.data.shapes.generator import generate_shapes
from centermask_solo.data.validation import report as report_module
from centermask_solo.data.validation.findings import MAX_EXAMPLES
from centermask_solo.data.validation.report import Scope, check_dataset
from centermask_solo.utils.errors import DataError
from tests.data import coco_files


def report_on(folder, data=coco_files.VALID):
    register_coco_instances("mine", {}, *coco_files.write(folder, data))
    return check_dataset("mine")


def test_valid_data(tmp_path):
    report = report_on(tmp_path)
    assert report.ok
    assert (report.num_images, report.num_empty_images) == (3, 1)
    assert (report.num_annotations, report.num_crowds) == (3, 1)
    assert (report.num_polygons, report.num_rles, report.num_without_mask) == (2, 1, 0)
    assert report.objects_of_class == {"dog": 1, "cat": 1, "emu": 0}  # the crowd is not an object
    assert report.objects_of_size == {"small": 2, "medium": 0, "large": 0}
    text = str(report)
    assert "NOTE: 1 x class without objects, such as emu: " in text
    assert text.endswith("no faults found")


def test_shapes_have_no_faults(tmp_path):
    folder = generate_shapes(tmp_path, "train", 12)
    report = check_dataset(str(folder / "annotations.json"), str(folder / "images"))
    assert report.ok
    assert report.num_rles == report.num_annotations > 60
    assert report.num_crowds == 1


def box(*corners):
    """Return a rectangle as a polygon."""
    left, top, right, bottom = corners
    return [left, top, right, top, right, bottom, left, bottom]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"image_id": 99}, ["annotation of an image that is not in the json"]),
        ({"bbox": [2, 3, 0, 8]}, ["box without area"]),
        ({"bbox": [2, 3, 10, 80]}, ["box that extends beyond the image"]),
        ({"bbox": [-0.5, 3, 10, 8]}, []),  # half a pixel is tolerated
        ({"segmentation": []}, ["object without mask"]),
        ({"segmentation": [[1, 2, 3, 4]]}, ["polygon of fewer than 3 points or an odd number of values"]),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, ["polygon of fewer than 3 points or an odd number of values"]),
        ({"segmentation": [[1, 1, 5, 5, 9, 9]]}, ["polygon without area"]),
        ({"segmentation": [box(1, 1, 60, 9)]}, ["polygon that extends beyond the image"]),
        ({"segmentation": [box(1, -5, 9, 9), box(1, -6, 9, 9)]}, ["polygon that extends beyond the image"]),
        ({"segmentation": {"size": [30, 40], "counts": [1200]}}, ["RLE without any pixels"]),
        ({"segmentation": {"size": [30, 40], "counts": [10, "a"]}}, ["RLE that cannot be decoded"]),
        ({"segmentation": {"size": [30, 40], "counts": "04XT1"}}, ["RLE whose counts do not sum to height x width"]),
        ({"bbox": [0, 0, 1, 4], "segmentation": {"size": [30, 40], "counts": "04\\U1"}}, []),  # compressed
    ],
)  # fmt: skip
def test_faults_of_annotations(tmp_path, change, kinds):
    data = coco_files.valid()
    data["annotations"][0].update(change)
    report = report_on(tmp_path, data)
    assert list(report.faults) == kinds
    assert report.ok == (not kinds)
    for kind in kinds:
        assert report.faults[kind].count == len(report.faults[kind].examples) == 1
        assert report.faults[kind].examples[0].startswith("annotation 1 (")
        assert f"FAULT, 1 x {kind}: annotation 1" in str(report)


def test_categories_of_the_same_name(tmp_path):
    data = coco_files.valid()
    data["categories"][0]["name"] = "emu"
    report = report_on(tmp_path, data)
    assert list(report.faults) == ["class name of several categories"]
    assert report.faults["class name of several categories"].examples == ["emu"]
    assert report.objects_of_class == {"dog": 1, "emu (id 7)": 1, "emu (id 9)": 0}


def test_images(tmp_path):
    data = coco_files.valid()
    data["images"][0].update(width=41)
    del data["annotations"][1]
    json_file, images = coco_files.write(tmp_path, data)
    (tmp_path / "images" / "2.png").unlink()
    path = tmp_path / "images" / "3.png"
    path.write_bytes(path.read_bytes()[:300])
    report = check_dataset(json_file, images)
    assert report.faults["missing image"].examples == [f"{images}/2.png"]
    (wrong,) = report.faults["image of another size than the json says"].examples
    (damaged,) = report.faults["damaged image"].examples
    assert "1.png has 40x30 pixels, but the json says 41x30" in wrong
    assert "3.png is damaged" in damaged
    assert str(report).endswith("3 faults found")
    assert list(check_dataset(json_file, images, Scope(open_images=False)).faults) == ["missing image"]


def test_many_faults_are_counted_and_abbreviated(tmp_path):
    data = coco_files.valid()
    data["annotations"] = [{**data["annotations"][0], "id": i, "bbox": [0, 0, 0, 0]} for i in range(20)]
    text = str(report_on(tmp_path, data))
    assert "FAULT, 20 x box without area: annotation 0 (1.png): [0.0, 0.0, 0.0, 0.0]; " in text
    assert f"and {20 - MAX_EXAMPLES} more" in text


def test_json_that_is_not_coco_is_an_error(tmp_path):
    with pytest.raises(DataError, match="lacks the list 'images'"):
        report_on(tmp_path, json.dumps({"shapes": []}))


def test_dataset_without_json(monkeypatch):
    monkeypatch.setattr(report_module, "find_files", lambda name: {})
    with pytest.raises(DataError, match="has no annotation file in COCO format"):
        check_dataset("mine")
