"""Every kind of result holds the instances exactly, as other programs read it."""

import csv
import json
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from pycocotools import mask as rle
from pycocotools.coco import COCO

from centermask_solo.inference import conversions
from centermask_solo.inference.filters import Filters
from centermask_solo.inference.outputs import Outputs
from centermask_solo.inference.predictions import Prediction, Stems, predict_items
from centermask_solo.inference.result_file import PredictionsFile
from centermask_solo.inference.results import claim_results, write_predictions
from centermask_solo.inference.sources import find_sources
from centermask_solo.inference.tiling import TiledPredictor, Tiles
from centermask_solo.runtime.instances import ExportedInstances, to_code
from centermask_solo.utils.errors import ConfigError, MissingPackageError
from tests.inference.colors import ColorPredictor, make_instances

RED, BLUE = (1, 40, 200), (2, 200, 20)  # BGR: classes 1 and 2; the latter's score is higher
ALL = dict.fromkeys(("results", "csv", "labelme", "yolo", "masks", "id_maps", "cutouts"), True)
SIZE = (60, 90)


def draw_image(path, shift=0):
    """A ring, and two squares of one color."""
    image = np.zeros((*SIZE, 3), np.uint8)
    cv2.circle(image, (25 + shift, 30), 20, RED, -1)
    cv2.circle(image, (25 + shift, 30), 8, (0, 0, 0), -1)
    image[10:20, 60:70], image[40:52, 60:80] = BLUE, BLUE
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), image)
    return {1: (image == RED).all(axis=2), 2: (image == BLUE).all(axis=2)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of the results, and the masks of each image by class."""
    folder = tmp_path_factory.mktemp("outputs")
    truth = [draw_image(folder / "data" / "a.png"), draw_image(folder / "data" / "b.png", 2)]
    write(folder, Outputs(**ALL))
    return folder, truth


def write(folder, outputs, filters=Filters(), inputs=None):  # noqa: B008
    sources = find_sources(inputs or [str(folder / "data")])
    predictor = TiledPredictor(ColorPredictor(), Tiles(1000))
    return write_predictions(predictor, sources, str(folder / "found"), filters, outputs, threads=2)


@pytest.mark.parametrize("polygons", [False, True])
def test_coco_dataset_and_results(run, tmp_path, polygons):
    folder, truth = run
    inputs = [str(folder / "data")]
    write(tmp_path, Outputs(results=True, polygons=polygons), inputs=inputs)
    coco = COCO(str(tmp_path / "found" / "predictions.json"))
    results = json.loads((tmp_path / "found" / "results.json").read_text())
    assert len(results) == len(coco.anns) == 4
    for annotation, result in zip(coco.anns.values(), results, strict=True):
        mask = truth[annotation["image_id"] - 1][annotation["category_id"] - 1]
        assert isinstance(annotation["segmentation"], list) == polygons
        assert np.array_equal(coco.annToMask(annotation), mask) and annotation["area"] == mask.sum()
        assert np.array_equal(rle.decode(result["segmentation"]), mask)
        assert set(result) == {"image_id", "category_id", "bbox", "score", "segmentation"}
        assert {k: annotation[k] for k in ("image_id", "category_id", "bbox")} == {
            k: result[k] for k in ("image_id", "category_id", "bbox")
        }
    assert len(coco.loadRes(results).anns) == 4


def test_table(run):
    folder, truth = run
    with open(folder / "found" / "instances.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(r["id"], r["image_id"], r["class"]) for r in rows] == [
        (str(i), str(j), c) for i, (j, c) in enumerate([(1, "blue2"), (1, "blue1"), (2, "blue2"), (2, "blue1")], 1)
    ]
    for row in rows:
        mask = truth[int(row["image_id"]) - 1][int(row["class"][-1])]
        y, x = np.nonzero(mask)
        assert row["file"].endswith(f"{'ab'[int(row['image_id']) - 1]}.png")
        expected = {"x": x.min(), "y": y.min(), "width": np.ptp(x) + 1, "height": np.ptp(y) + 1, "area": mask.sum()}
        expected |= {"centroid_x": x.mean() + 0.5, "centroid_y": y.mean() + 0.5}
        assert {k: float(row[k]) for k in expected} == pytest.approx(expected, abs=1e-3)
        assert 0.3 <= float(row["score"]) <= 1 and row["track_id"] == row["frame"] == ""


def fill(polygons):
    return rle.decode(rle.merge(rle.frPyObjects([list(np.ravel(p)) for p in polygons], *SIZE))).astype(bool)


def test_labelme(run):
    folder, truth = run
    content = json.loads((folder / "found" / "labelme" / "a.json").read_text())
    assert (folder / "found" / "labelme" / content["imagePath"]).resolve() == (folder / "data" / "a.png").resolve()
    assert (content["imageHeight"], content["imageWidth"]) == SIZE
    for number, group in ((2, 0), (1, 1)):
        shapes = [x for x in content["shapes"] if x["group_id"] == group]
        assert {x["label"] for x in shapes} == {f"blue{number}"} and len(shapes) == number
        assert np.array_equal(fill(x["points"] for x in shapes), truth[0][number])


def test_yolo(run):
    folder, truth = run
    lines = (folder / "found" / "labels" / "b.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["2", "1"]
    for line in lines:
        number, *values = line.split()
        polygon = np.array(values, float).reshape(-1, 2) * [SIZE[1], SIZE[0]]
        assert np.array_equal(fill([polygon.round(3)]), truth[1][int(number)])
    assert (folder / "found" / "classes.txt").read_text().splitlines()[:2] == ["blue0", "blue1"]


def test_masks_maps_and_cutouts(run):
    folder, truth = run
    found = folder / "found"
    image = cv2.imread(str(folder / "data" / "a.png"))
    ids = cv2.imread(str(found / "id_maps" / "0001_a.png"), cv2.IMREAD_UNCHANGED)
    assert ids.dtype == np.uint16
    for i, number in ((1, 2), (2, 1)):
        mask = cv2.imread(str(found / "masks" / f"0001_a_{i}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(mask, truth[0][number] * np.uint8(255)) and np.array_equal(ids == i, truth[0][number])
        y, x = np.nonzero(mask)
        box = slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)
        cutout = cv2.imread(str(found / "cutouts" / f"0001_a_{i}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(cutout[..., 3], mask[box]) and np.array_equal(cutout[..., :3], image[box])
    assert len(list((found / "masks").iterdir())) == len(list((found / "cutouts").iterdir())) == 4


def test_of_instances_that_overlap_the_map_has_the_best():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :3], masks[1, 2:] = True, True
    ids = conversions.instances_to_id_map(make_instances(masks, [0.9, 0.5]))
    assert ids[:, 0].tolist() == [1, 1, 1, 2]
    assert conversions.instances_to_id_map(make_instances(masks, [0.5, 0.9]))[:, 0].tolist() == [1, 1, 2, 2]


def test_masks_without_a_pixel_are_ordinary(tmp_path):
    """As a model that has hardly been trained finds them."""
    found = make_instances(np.stack([np.zeros((4, 6), bool), np.eye(4, 6, dtype=bool)]))
    found.pred_boxes.tensor[0] = torch.tensor([1.0, 1.0, 5.0, 3.0])
    row = conversions.instances_to_rows(found, ["a"])[0]
    assert (row["area"], row["centroid_x"], row["centroid_y"]) == (0, 3, 2)
    first, second = conversions.instances_to_coco_annotations(found, 1, as_polygons=True)
    assert not rle.decode(first["segmentation"]).any() and len(second["segmentation"]) == 4
    image = np.zeros((4, 6, 3), np.uint8)
    prediction = Prediction(1, str(tmp_path / "a.png"), image, found, Metadata(name="one", thing_classes=["a"]), 0.3)
    outputs = Outputs(**ALL, pictures=True, polygons=True)
    with PredictionsFile(str(tmp_path), ["a"], polygons=True) as file:
        file.add(prediction)
        outputs.write(prediction, str(tmp_path), "a")
    annotations = json.loads((tmp_path / "predictions.json").read_text())["annotations"]
    assert [type(x["segmentation"]) for x in annotations] == [dict, list]
    assert len(list((tmp_path / "masks").iterdir())) == 2
    assert [x.name for x in (tmp_path / "cutouts").iterdir()] == ["0001_a_2.png"]


def test_models_of_boxes_have_the_outputs_that_need_no_masks():
    found = make_instances(np.ones((1, 4, 6), bool))
    found.remove("pred_masks")
    assert conversions.instances_to_polygons(found) == [[[0, 0, 6, 0, 6, 4, 0, 4]]]
    assert conversions.instances_to_rows(found, ["a"])[0]["centroid_x"] == 3
    assert "segmentation" not in conversions.instances_to_coco_annotations(found, 1, as_polygons=True)[0]
    with pytest.raises(ConfigError, match="the model finds boxes only, but this output needs masks"):
        conversions.instances_to_id_map(found)


class FakeDetections:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def test_supervision(monkeypatch, run):
    monkeypatch.setitem(sys.modules, "supervision", None)
    found = make_instances(np.ones((2, 4, 6), bool), [0.5, 0.9], [1, 0])
    with pytest.raises(MissingPackageError, match="supervision is not installed: run 'pip install supervision'"):
        conversions.instances_to_supervision(found)
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=FakeDetections))
    found.track_ids = torch.tensor([7, 8])
    detections = conversions.instances_to_supervision(found, ["cat", "dog"])
    assert detections.xyxy.tolist() == [[0, 0, 6, 4]] * 2
    assert detections.mask.shape == (2, 4, 6) and detections.mask.all()
    assert detections.class_id.tolist() == [1, 0] and detections.tracker_id.tolist() == [7, 8]
    assert detections.confidence.tolist() == pytest.approx([0.5, 0.9])
    assert detections.data["class_name"].tolist() == ["dog", "cat"]
    fields = {"scores": np.ones(1, np.float32), "pred_classes": np.zeros(1, int), "pred_boxes": np.ones((1, 4))}
    mask = np.eye(4, dtype=bool)
    for form in (mask[None], [to_code(mask)]):
        exported = ExportedInstances((4, 4), pred_masks=form, **fields).to_supervision(["cat"])
        assert np.array_equal(exported.mask[0], mask) and exported.tracker_id is None
    sources = find_sources([str(run[0] / "data")])
    prediction = next(predict_items(TiledPredictor(ColorPredictor(), Tiles()), sources, Filters()))
    assert prediction.to_supervision().data["class_name"].tolist() == ["blue2", "blue1"]


def test_images_of_one_name_have_results_of_their_own(tmp_path):
    for name in ("data/a.png", "more/a.png"):
        draw_image(tmp_path / name)
    inputs = [str(tmp_path / x) for x in ("data", "more")]
    write(tmp_path, Outputs(pictures=False, yolo=True, masks=True), inputs=inputs)
    assert sorted(x.name for x in (tmp_path / "found" / "labels").iterdir()) == ["a.txt", "a_2.txt"]
    assert sorted(x.name for x in (tmp_path / "found" / "masks").iterdir())[2] == "0002_a_2_1.png"


def test_names_of_frames():
    stems = Stems()
    assert stems.of(1, "x/clip.mp4#0") == "clip_000000" and stems.of(2, "x/clip.mp4#7") == "clip_000007"
    assert stems.of(3, "y/clip.mp4#0") == "clip_3_000000" and stems.of(4, "0#5") == "camera0_000005"
    assert stems.of(5, "rtsp://host/a?b=c d#0") == "a_b_c_d_000000" and stems.of(6, "a#1.png") == "a#1"


def test_names_are_unique_whatever_the_files_are_called():
    stems = Stems()
    assert [stems.of(i, x) for i, x in enumerate(("a_3.png", "a.png", "b/a.png"), 1)] == ["a_3", "a", "a_3_3"]
    assert stems.of(4, "clip.mp4#2") == "clip_000002" and stems.of(5, "clip_000002.png") == "clip_000002_5"
    assert stems.of(6, "film_000001.png") == "film_000001" and stems.of(7, "film.mp4#1") == "film_7_000001"


@pytest.mark.parametrize("name", ["results", "csv", "labelme", "yolo", "masks", "id_maps", "cutouts"])
def test_no_kind_of_result_is_replaced(run, name):
    folder = str(run[0] / "found")
    for path in ("predictions.json", "0001_a.jpg"):
        hidden = run[0] / "found" / path
        hidden.rename(hidden.with_suffix(".hidden"))
    try:
        outputs = Outputs(pictures=False, **{name: True})
        with pytest.raises(ConfigError, match=r"found holds the results of another run, such as"):
            claim_results(folder, outputs, [])
        claim_results(folder, outputs, [], overwrite=True)
        claim_results(folder, Outputs(pictures=False), [])
    finally:
        for path in (run[0] / "found").glob("*.hidden"):
            path.rename(path.with_suffix(".json" if path.stem == "predictions" else ".jpg"))


def test_inputs_in_a_folder_of_results_are_refused(tmp_path):
    draw_image(tmp_path / "masks" / "a.png")
    path = str(tmp_path / "masks" / "a.png")
    with pytest.raises(ConfigError, match=r"a\.png is in the output folder .*masks: choose another folder"):
        claim_results(str(tmp_path), Outputs(masks=True), [path], overwrite=True)
    claim_results(str(tmp_path), Outputs(), [path])
