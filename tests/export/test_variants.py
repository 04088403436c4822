"""Files of other variants and precisions than the default, and what the commands do with one."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

import onnx
from pycocotools import mask as rle

from centermask_solo import ExportedPredictor
from centermask_solo.cli import main
from tests.export.models import eager, photographs, save_weights

pytestmark = pytest.mark.slow

SLOTS = 3


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A file with everything that is not the default, and its weights; the command has verified it."""
    folder = tmp_path_factory.mktemp("half")
    weights, path = save_weights(folder / "weights.pth", "YOLACT"), str(folder / "model.onnx")
    options = ["--variant", "full-masks", "--half", "--max-detections", str(SLOTS)]
    main(["export", "--weights", weights, "--output", path, *options])
    return weights, path


def test_masks_are_of_the_size_of_the_input_and_weights_of_half_precision(half):
    _, path = half
    graph = onnx.load(path).graph
    shapes = {x.name: [d.dim_value for d in x.type.tensor_type.shape.dim] for x in graph.output}
    assert shapes["masks"][1] == SLOTS
    image = photographs()[0]
    session = ExportedPredictor(path)._session
    assert session.run({"images": image[None]})["masks"].shape == (1, SLOTS, *image.shape[:2])
    numbers = Counter()
    for x in graph.initializer:
        numbers[x.data_type] += int(np.prod(x.dims))
    assert numbers[onnx.TensorProto.FLOAT16] > 0.9 * numbers.total()


def test_the_best_detections_fill_the_slots(half):
    weights, path = half
    image = photographs()[0]
    found = ExportedPredictor(path, threads=1)(image)["instances"]
    all_found = eager(weights)(image)["instances"]
    assert len(found) == SLOTS < len(all_found)
    scores = all_found.scores.numpy()
    np.testing.assert_allclose(found.scores, scores[:SLOTS], atol=0.02)  # the weights are rounded
    similar = all_found[scores > found.scores.min() - 0.02]
    overlaps = similar.pred_masks.numpy()[None] & found.pred_masks[:, None]
    either = similar.pred_masks.numpy()[None] | found.pred_masks[:, None]
    ious = overlaps.sum((2, 3)) / either.sum((2, 3))
    assert ious.max(axis=1).min() > 0.9
    assert similar.pred_classes.numpy()[ious.argmax(axis=1)].tolist() == found.pred_classes.tolist()


def test_the_command_evaluates_a_file(half, tmp_path):
    """The ground truth is what the file finds."""
    _, path = half
    predictor, image = ExportedPredictor(path), photographs()[0]
    found = predictor(image, masks="rle")["instances"]
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), image)
    names = predictor.metadata.class_names
    annotations = [
        {"id": i + 1, "image_id": 7, "category_id": int(x) + 1, "iscrowd": 0, "area": float(rle.area(code))}
        | {"bbox": rle.toBbox(code).tolist(), "segmentation": code}
        for i, (x, code) in enumerate(zip(found.pred_classes, found.pred_masks, strict=True))
    ]
    height, width = image.shape[:2]
    ground_truth = {
        "images": [{"id": 7, "file_name": "a.png", "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
    }
    (tmp_path / "val.json").write_text(json.dumps(ground_truth))
    common = ["--ground-truth", str(tmp_path / "val.json"), "--images", str(tmp_path / "images")]
    numbers = tmp_path / "metrics.json"
    main(["evaluate", "--weights", path, *common, "--output", str(tmp_path / "found"), "--json", str(numbers)])
    metrics = json.loads(numbers.read_text())
    assert metrics["segm"]["AP"] == pytest.approx(100)
