"""The evaluators of panoptic and semantic segmentation."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from centermask_solo.evaluation import PanopticEvaluator, SemanticEvaluator
from centermask_solo.utils.errors import ConfigError, DataError

PERSON, CAR, SKY, ROAD = 10, 20, 30, 40  # ids in the dataset
LARGE = 300_000  # a segment id that needs three channels
GT = [[[1, 1, 2, 2], [1, 1, 2, 2], [LARGE] * 4], [[0, 5, 5, 5], [0, 0, 0, 0], [6, 6, 6, 6]]]
CATEGORIES = [{1: PERSON, 2: CAR, LARGE: SKY}, {5: PERSON, 6: ROAD}]
LABELS = [[[0] * 4, [0] * 4, [1] * 4], [[255, 0, 0, 0], [255] * 4, [2] * 4]]


def save_ids(ids, path):
    ids = np.array(ids)
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)).save(path)


@pytest.fixture
def dataset(tmp_path):
    annotations, records = [], []
    for i, (ids, categories) in enumerate(zip(GT, CATEGORIES, strict=True)):
        save_ids(ids, tmp_path / f"{i}.png")
        Image.fromarray(np.array(LABELS[i], dtype=np.uint8)).save(tmp_path / f"labels{i}.png")
        infos = [
            {"id": s, "category_id": c, "iscrowd": int(s == 5), "area": ids.count(s)} for s, c in categories.items()
        ]
        annotations.append({"image_id": i, "file_name": f"{i}.png", "segments_info": infos})
        records.append({"file_name": f"{i}.jpg", "image_id": i, "sem_seg_file_name": str(tmp_path / f"labels{i}.png")})
    categories = [{"id": x, "name": str(x), "isthing": int(x in (PERSON, CAR))} for x in (PERSON, CAR, SKY, ROAD)]
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps({"annotations": annotations, "categories": categories, "images": []}))
    name = f"panoptic_{tmp_path.name}"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(
        panoptic_json=str(path),
        panoptic_root=str(tmp_path),
        thing_dataset_id_to_contiguous_id={PERSON: 0, CAR: 1},
        stuff_dataset_id_to_contiguous_id={0: 0, SKY: 1, ROAD: 2},
        stuff_classes=["things", "sky", "road"],
        ignore_label=255,
    )
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def panoptic(ids, *segments):
    """Segments are (id, is_thing, class of the model)."""
    infos = [{"id": i, "isthing": thing, "category_id": c, "score": 0.5} for i, thing, c in segments]
    return {"panoptic_seg": (torch.tensor(ids, dtype=torch.int32), infos)}


PERFECT = [
    panoptic([[1, 1, 2, 2], [1, 1, 2, 2], [3] * 4], (1, True, 0), (2, True, 1), (3, False, 1)),
    panoptic([[0] * 4, [0] * 4, [1] * 4], (1, False, 2)),  # the person is a crowd
]
ALL_100 = {f"{x}{group}": 100 for group in ("", "_th", "_st") for x in ("PQ", "SQ", "RQ")}


def evaluate(dataset, outputs, output_dir=None):
    evaluator = PanopticEvaluator(dataset, output_dir)
    evaluator.reset()
    for i, output in enumerate(outputs):
        evaluator.process([{"image_id": i, "file_name": f"{i}.jpg"}], [output])
    return evaluator.evaluate()


def test_perfect_predictions(dataset):
    assert evaluate(dataset, PERFECT) == {"panoptic_seg": ALL_100}


def test_things_and_stuff_are_averaged_apart(dataset):
    """The car is missed, and the sky is called road."""
    first = panoptic([[1, 1, 0, 0], [1, 1, 0, 0], [3] * 4], (1, True, 0), (3, False, 2))
    got = evaluate(dataset, [first, PERFECT[1]])["panoptic_seg"]
    road = 100 * 1 / (1 + 0.5)  # of two predicted, one matches
    assert got["PQ_th"] == pytest.approx((100 + 0) / 2)
    assert got["PQ_st"] == pytest.approx((0 + road) / 2)
    assert got["PQ"] == pytest.approx((100 + 0 + 0 + road) / 4)
    assert (got["SQ"], got["SQ_th"], got["SQ_st"]) == (50, 50, 50)


def test_nothing_predicted_and_images_without_prediction_are_zero(dataset):
    nothing = [panoptic(np.zeros((3, 4)).tolist())] * 2
    zero = dict.fromkeys(ALL_100, 0)
    assert (
        evaluate(dataset, nothing) == evaluate(dataset, nothing[:1]) == evaluate(dataset, []) == {"panoptic_seg": zero}
    )
    half = evaluate(dataset, PERFECT[:1])["panoptic_seg"]
    assert (half["PQ_th"], half["PQ_st"], half["PQ"]) == (100, 50, 75)  # the road is missed


def test_a_group_without_categories_is_nan(dataset):
    path = MetadataCatalog.get(dataset).panoptic_json
    with open(path) as file:
        content = json.load(file)
    content["annotations"] = content["annotations"][1:]  # a crowd of persons, and a road
    with open(path, "w") as file:
        json.dump(content, file)
    evaluator = PanopticEvaluator(dataset)
    evaluator.process([{"image_id": 1}], [PERFECT[1]])
    got = evaluator.evaluate()["panoptic_seg"]
    assert np.isnan(got["PQ_th"]) and (got["PQ"], got["PQ_st"]) == (100, 100)


def test_ids_that_encode_the_category(dataset):
    MetadataCatalog.get(dataset).set(label_divisor=1000)
    MetadataCatalog.get(dataset).thing_dataset_id_to_contiguous_id[CAR] = 3  # classes of things and stuff are disjoint
    ids = [[[0, 0, 3000, 3000], [0, 0, 3000, 3000], [1000] * 4], [[-1] * 4, [-1] * 4, [2000] * 4]]
    outputs = [{"panoptic_seg": (torch.tensor(x), None)} for x in ids]
    assert evaluate(dataset, outputs) == {"panoptic_seg": ALL_100}


def test_written_predictions_are_in_cocos_format(dataset, tmp_path):
    out = tmp_path / "out"
    evaluate(dataset, PERFECT, str(out))
    written = json.loads((out / "predictions.json").read_text())["annotations"]
    assert [(x["image_id"], x["file_name"]) for x in written] == [(0, "0.png"), (1, "1.png")]
    assert [(x["id"], x["category_id"]) for x in written[0]["segments_info"]] == [(1, PERSON), (2, CAR), (3, SKY)]
    assert (
        np.asarray(Image.open(out / "predictions" / "0.png"))[..., 0].tolist() == PERFECT[0]["panoptic_seg"][0].tolist()
    )


def test_written_predictions_are_a_perfect_ground_truth(dataset, tmp_path):
    evaluate(dataset, PERFECT, str(tmp_path / "out"))
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    metadata = MetadataCatalog.get(dataset)
    with open(metadata.panoptic_json) as file:
        predictions["categories"] = json.load(file)["categories"]
    with open(metadata.panoptic_json, "w") as file:
        json.dump(predictions, file)
    for path in (tmp_path / "out" / "predictions").iterdir():
        path.replace(tmp_path / path.name)
    assert evaluate(dataset, PERFECT) == {"panoptic_seg": ALL_100}


@pytest.mark.parametrize(
    "fault, message", [("size", "0.png has 2x2 pixels, but its image has 4x3"), ("id", "segment 77")]
)
def test_faulty_ground_truth(dataset, tmp_path, fault, message):
    save_ids([[1, 1], [1, 1]] if fault == "size" else [[77] * 4] * 3, tmp_path / "0.png")
    with pytest.raises(DataError, match=message):
        evaluate(dataset, PERFECT)


def test_unknown_image(dataset):
    with pytest.raises(DataError, match="no annotation of the image 2"):
        evaluate(dataset, [*PERFECT, PERFECT[0]])


def semantic(labels):
    return {"sem_seg": torch.nn.functional.one_hot(torch.tensor(labels), 3).permute(2, 0, 1).float()}


def evaluate_semantic(dataset, *labels):
    evaluator = SemanticEvaluator(dataset, distributed=False)
    evaluator.reset()
    for i, x in enumerate(labels):
        evaluator.process([{"image_id": i, "file_name": f"{i}.jpg"}], [semantic(x)])
    return evaluator.evaluate()["sem_seg"]


def test_semantic_segmentation(dataset):
    """Predicted without any road, and unlabeled pixels do not count."""
    got = evaluate_semantic(dataset, LABELS[0], [[1, 0, 0, 0], [1] * 4, [0] * 4])
    assert (got["IoU-things"], got["IoU-sky"], got["IoU-road"]) == pytest.approx((100 * 11 / 15, 100, 0))
    assert got["mIoU"] == pytest.approx((100 * 11 / 15 + 100) / 3)
    assert got["pACC"] == pytest.approx(100 * 15 / 19)


def test_model_with_other_semantic_classes(dataset):
    evaluator = SemanticEvaluator(dataset, distributed=False)
    evaluator.reset()
    with pytest.raises(ConfigError, match=r"NUM_CLASSES is 54, .* has 3 stuff_classes: set .*NUM_CLASSES 3"):
        evaluator.process([{"file_name": "0.jpg"}], [{"sem_seg": torch.zeros(54, 3, 4)}])


def save_labels(path, pixels):
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda path: path.unlink(), r"labels0.png is missing: restore it \(datasets/prepare_panoptic_fpn\.py"),
        (lambda path: path.write_bytes(b"\x89PNG"), "labels0.png is damaged"),
        (lambda path: save_labels(path, [[0, 0]]), "labels0.png has 2x1 pixels, but its image 0.jpg has 4x3"),
        (
            lambda path: save_labels(path, [[0, 1, 2, 3]] * 3),
            "labels0.png has the label 3, but .* classes 0 to 2 and 255",
        ),
        (lambda path: save_labels(path, np.zeros((3, 4, 3))), "labels0.png has 3 channels"),
    ],
    ids=["missing", "damaged", "size", "label", "color"],
)
def test_faulty_label_images(dataset, tmp_path, change, message):
    change(tmp_path / "labels0.png")
    with pytest.raises(DataError, match=message):
        evaluate_semantic(dataset, LABELS[0])
