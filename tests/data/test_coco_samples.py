from __future__ import annotations

import copy
import json
import pickle

import pytest
from detectron2.data import MetadataCatalog
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.data.datasets import load_coco_json

from centermask_solo.data.coco_samples import CocoSamples, JoinedSamples, image_samples, outlines
from centermask_solo.data.formats.coco import read_coco_json

RUNS = {"size": [40, 60], "counts": [5, 3, 2392]}


def write_json(path, shift=0):
    """A json with every kind of mask, keypoints, crowds, images out of order, and images without objects."""
    square = [1.0, 1, 9, 1, 9, 9.5]
    segmentations = [[square], [square, [5, 5, 20, 5, 20, 30]], RUNS, [[1, 2]], [square], None, [square]]
    annotations = [
        {
            "id": i + 1,
            "image_id": (7, 3, 7, 3, 9, 7, 12)[i] + shift,
            "category_id": (4, 2, 4, 2, 4, 2, 2)[i],
            "iscrowd": int(i in (2, 6)),
            "bbox": [1, 1, 8.5, 8],
            "area": 10,
            "segmentation": x,
        }
        for i, x in enumerate(segmentations)
    ]
    annotations[0]["keypoints"] = [1, 2, 2, 3, 4, 0]
    annotations[1]["keypoints"] = []
    del annotations[5]["segmentation"], annotations[4]["iscrowd"]
    images = [
        {"id": i + shift, "file_name": f"{i}.jpg", "height": 40, "width": 60, "license": 1} for i in (9, 3, 12, 7, 5)
    ]
    categories = [{"id": 4, "name": "b"}, {"id": 2, "name": "a"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return str(path)


def samples_of(path):
    data = read_coco_json(path)
    return CocoSamples(data, "root", {x["id"]: i for i, x in enumerate(data.categories)})


@pytest.fixture
def expected(tmp_path):
    path = write_json(tmp_path / "a.json")
    yield path, load_coco_json(path, "root", "coco_samples_test")
    MetadataCatalog.remove("coco_samples_test")


def test_samples_are_those_of_detectron2(expected):
    path, samples = expected
    packed = samples_of(path)
    assert list(packed) == samples
    assert [packed[i] for i in range(len(packed))] == samples and packed[1:3] == samples[1:3]
    assert all(type(p) is list for x in packed[1]["annotations"] for p in x.get("segmentation", []))
    assert list(pickle.loads(pickle.dumps(packed))) == samples


def test_images_without_objects_are_left_out_as_by_detectron2(expected):
    path, samples = expected
    used = samples_of(path).with_objects()
    assert list(used) == filter_images_with_only_crowd_annotations(copy.deepcopy(samples))
    assert 0 < len(used) < len(samples)


def test_outlines_have_images_classes_and_crowds(expected):
    path, samples = expected
    found = list(samples_of(path).outlines())
    images = [{k: v for k, v in x.items() if k != "annotations"} for x in samples]
    assert [{k: v for k, v in x.items() if k != "annotations"} for x in found] == images
    assert image_samples(read_coco_json(path), "root") == images
    assert [[(a["category_id"], a["iscrowd"]) for a in x["annotations"]] for x in found] == [
        [(0, False), (0, False)],
        [],
        [(1, False), (1, True), (0, False)],
        [(1, False)],
        [(0, True)],
    ]
    assert list(outlines(samples)) == samples


def test_files_are_joined(tmp_path):
    parts = [samples_of(write_json(tmp_path / f"{i}.json", shift=100 * i)).with_objects() for i in range(2)]
    joined = JoinedSamples(parts)
    everything = [*parts[0], *parts[1]]
    assert len(joined) == len(everything)
    assert [joined[i] for i in range(len(joined))] == everything
    assert list(outlines(joined)) == [*parts[0].outlines(), *parts[1].outlines()]
