"""The script that writes a subset of a COCO json."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from centermask_solo.data.formats.coco import read_coco_json

SCRIPT = Path(__file__).parents[2] / "datasets" / "prepare_subset.py"
spec = importlib.util.spec_from_file_location("prepare_subset", SCRIPT)
prepare_subset = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prepare_subset)


@pytest.fixture
def coco_json(tmp_path):
    """Four images; 3 has no object, and 7 has only a crowd."""
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9} for i in (9, 3, 7, 5)]
    boxes = [(9, 0), (9, 0), (7, 1), (5, 0)]
    annotations = [
        {
            "id": i + 1,
            "image_id": image,
            "category_id": 4,
            "bbox": [1, 1, 4, 4],
            "area": 16,
            "iscrowd": crowd,
            "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]] if not crowd else {"size": [9, 9], "counts": [0, 81]},
        }
        for i, (image, crowd) in enumerate(boxes)
    ]
    path = tmp_path / "all.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 4, "name": "a"}]}))
    return path


def run(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["prepare_subset.py", *map(str, args)])
    prepare_subset.main()


def test_first_images_with_objects(coco_json, tmp_path, monkeypatch, capsys):
    output = tmp_path / "new" / "two.json"
    run(monkeypatch, coco_json, "--count", 2, "--output", output)
    subset = read_coco_json(str(output))
    assert [x["id"] for x in subset.images] == [5, 9]
    assert [x["image_id"] for x in subset.annotations] == [9, 9, 5]
    assert subset.classes == ["a"]
    assert "2 images, 3 objects" in capsys.readouterr().out


def test_neither_the_input_nor_another_file_is_replaced(coco_json, tmp_path, monkeypatch, capsys):
    before = coco_json.read_bytes()
    (tmp_path / "link.json").symlink_to(coco_json)
    for flags in ([], ["--overwrite"]):
        with pytest.raises(SystemExit):
            run(monkeypatch, coco_json, "--count", 2, "--output", tmp_path / "link.json", *flags)
        assert "link.json is an input, which would be lost" in capsys.readouterr().err
    assert coco_json.read_bytes() == before
    output = tmp_path / "two.json"
    output.write_text("dear")
    with pytest.raises(SystemExit):
        run(monkeypatch, coco_json, "--count", 2, "--output", output)
    assert "two.json exists already" in capsys.readouterr().err
    assert output.read_text() == "dear"
    run(monkeypatch, coco_json, "--count", 2, "--output", output, "--overwrite")
    assert read_coco_json(str(output)).classes == ["a"]


def test_too_few_images(coco_json, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, coco_json, "--count", 3, "--output", tmp_path / "three.json")
    assert "only 2 images with an object" in capsys.readouterr().err
    assert not (tmp_path / "three.json").exists()


def test_numbers_stay_as_they_are_and_images_named_by_their_url_get_a_name(coco_json, tmp_path, monkeypatch):
    data = json.loads(coco_json.read_text())
    for x in data["images"]:
        x["coco_url"] = f"http://images.cocodataset.org/train2017/{x.pop('file_name')}"
    polygons = [[1, 1, 5.5, 1, 5, 5, 1, 5]]
    data["annotations"][3]["segmentation"] = polygons
    coco_json.write_text(json.dumps(data))
    run(monkeypatch, coco_json, "--count", 1, "--output", tmp_path / "one.json")
    subset = json.loads((tmp_path / "one.json").read_text())
    assert [x["file_name"] for x in subset["images"]] == ["train2017/5.jpg"]
    assert json.dumps(subset["annotations"][0]["segmentation"]) == json.dumps(polygons)
