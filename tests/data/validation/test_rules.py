"""Every kind of fault is found with its annotation, and refused before training with the same words."""

import copy
import json
import math

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image
from pycocotools import mask as rle

from centermask_solo.data.datasets import load_dataset
from centermask_solo.data.validation import image_rules, rules
from centermask_solo.data.validation.checks import check_datasets
from centermask_solo.data.validation.report import Scope, check_dataset
from centermask_solo.utils.errors import DataError

WIDTH, HEIGHT = 96, 72
BOXES = [[8, 10, 30, 32], [52, 30, 30, 32]]


def polygon(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def encode(box):
    return rle.merge(rle.frPyObjects([polygon(box)], HEIGHT, WIDTH))["counts"].decode()


def runs(box):
    """Return the uncompressed counts of a box of whole pixels."""
    x, y, w, h = box
    counts = [x * HEIGHT + y, h]
    for _ in range(w - 1):
        counts += [HEIGHT - h, h]
    return [*counts, WIDTH * HEIGHT - sum(counts)]


def dataset():
    """Return a valid json: 4 images with 2 objects each."""
    return {
        "info": {},
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(1, 5)],
        "annotations": [
            {
                "id": 2 * i + k + 1,
                "image_id": i + 1,
                "category_id": k + 1,
                "iscrowd": 0,
                "area": 960,
                "bbox": list(box),
                "segmentation": [polygon(box)],
            }
            for i in range(4)
            for k, box in enumerate(BOXES)
        ],
        "categories": [{"id": 1, "name": "robin", "supercategory": "bird"}, {"id": 2, "name": "wren"}],
    }


def write(folder, data):
    noise = np.random.default_rng(0)
    for x in data["images"]:
        pixels = noise.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / x["file_name"].replace("\\", "_"))
    (folder / "data.json").write_text(json.dumps(data))
    return str(folder / "data.json"), str(folder)


def report_and_refusal(folder, data, masks=True):
    """Return the report, and the message that refuses the data, None if it is accepted; they must agree."""
    paths = write(folder, data)
    report = check_dataset(*paths, Scope(masks=masks))
    register_coco_instances("mine", {}, *paths)
    try:
        check_datasets(["mine"], 2, "KEY", masks=masks)
    except DataError as error:
        assert not report.ok
        message = str(error)
        assert "\n" not in message
        assert f"'centermask-solo data check {paths[0]} {paths[1]}' lists every fault" in message
        return report, message
    assert report.ok
    return report, None


def changed(**fields):
    """Return the valid json with other fields in every annotation; functions are given its box."""
    data = dataset()
    for x in data["annotations"]:
        box = x["bbox"]
        for key, value in fields.items():
            x[key] = copy.deepcopy(value(box) if callable(value) else value)
    return data


def run_lengths(counts):
    return lambda box: {"size": [HEIGHT, WIDTH], "counts": counts(box) if callable(counts) else counts}


def start_length_pairs(box):
    counts = runs(box)[:-1]
    return np.stack([np.cumsum(counts)[::2] + 1, counts[1::2]], axis=1).ravel().tolist()


def scale(box):
    return [v / side for v, side in zip(polygon(box), [WIDTH, HEIGHT] * 4, strict=True)]


REFUSED = [
    (changed(segmentation=run_lengths(start_length_pairs)), rules.RLE_SUM),
    (changed(segmentation=run_lengths(lambda b: [runs(b)[:2], runs(b)[2:4]])), rules.RLE_COUNTS),
    (changed(segmentation=run_lengths(lambda b: str(encode(b).encode()))), rules.RLE_COUNTS),
    (changed(segmentation=run_lengths(lambda b: [*runs(b), 500])), rules.RLE_SUM),
    (changed(segmentation=run_lengths(lambda b: " ".join(map(str, runs(b))))), rules.RLE_COUNTS),
    (changed(segmentation=run_lengths([])), rules.RLE_COUNTS),
    (changed(segmentation=run_lengths([WIDTH * HEIGHT + 5, -5])), rules.RLE_COUNTS),
    (changed(segmentation=lambda b: {"size": [WIDTH, HEIGHT], "counts": encode(b)}), rules.RLE_TRANSPOSED),
    (changed(segmentation=lambda b: {"size": "72x96", "counts": encode(b)}), rules.RLE_SIZE),
    (changed(segmentation=lambda b: {"size": [HEIGHT, math.nan], "counts": encode(b)}), rules.RLE_SIZE),
    (changed(segmentation=lambda b: [{"size": [HEIGHT, WIDTH], "counts": encode(b)}]), rules.RLE_IN_LIST),
    (changed(segmentation=lambda b: [[str(v) for v in polygon(b)]]), rules.POLYGON_NUMBERS),
    (changed(segmentation=lambda b: [[*polygon(b)[:-1], None]]), rules.POLYGON_NUMBERS),
    (changed(segmentation=lambda b: np.reshape(polygon(b), (4, 2)).tolist()), rules.POLYGON_PAIRS),
    (changed(segmentation=lambda b: [np.reshape(polygon(b), (4, 2)).tolist()]), rules.POLYGON_PAIRS),
    (changed(segmentation=lambda b: [[*b]]), rules.POLYGON_TOO_SHORT),
    (changed(segmentation=lambda b: [polygon(b)[:-1]]), rules.POLYGON_TOO_SHORT),
    (changed(segmentation=polygon), rules.POLYGON_FORMAT),
    (changed(segmentation=lambda b: [[*polygon(b)[:-1], math.nan]]), rules.POLYGON_NOT_FINITE),
    (changed(segmentation=lambda b: [[*polygon(b)[:-1], math.inf]]), rules.POLYGON_NOT_FINITE),
    (changed(segmentation=[]), rules.NO_MASK),
    (changed(segmentation=[[]]), rules.NO_MASK),
    (changed(segmentation=None), rules.NO_MASK),
    (changed(segmentation=lambda b: [scale(b)]), rules.NORMALIZED),
    (changed(bbox=lambda b: [v / s for v, s in zip(b, [WIDTH, HEIGHT] * 2, strict=True)]), rules.NORMALIZED),
    (changed(bbox=[0, 0, 0, 0]), rules.BOX_NO_AREA),
    (changed(bbox=[30, 30, -9, -9]), rules.BOX_INVERTED),
    (changed(bbox=lambda b: [b[0] - 200, *b[1:]]), rules.BOX_OUTSIDE),
    (changed(bbox=lambda b: [*b[:2], 90, b[3]]), rules.BOX_BEYOND),
    (changed(bbox=lambda b: [*b[:2], 1e300, b[3]]), rules.FAR_AWAY),
    (changed(segmentation=lambda b: [[*polygon(b)[:-1], 1e9]]), rules.FAR_AWAY),
    (changed(bbox=lambda b: [*b[:2], math.nan, b[3]]), rules.BOX_NOT_FINITE),
    (changed(bbox=lambda b: [*b[:2], math.inf, b[3]]), rules.BOX_NOT_FINITE),
    (changed(bbox=lambda b: [*b[:2], b[0] + b[2], b[1] + b[3]]), rules.CORNER_BOX),
    (changed(bbox=lambda b: [b[0], b[1] - 20 if b[1] > 20 else b[1] + 25, *b[2:]]), rules.BOX_MASK_DISAGREE),
    (changed(bbox=lambda b: [str(v) for v in b]), rules.BOX_FORMAT),
    (changed(id="a1"), rules.ANNOTATION_ID),
    (changed(id=True), rules.ANNOTATION_ID),
    (changed(id=math.nan), rules.ANNOTATION_ID),
    (changed(id=5), rules.ANNOTATION_ID_TWICE),
    (changed(category_id=True), rules.CATEGORY_ID),
    (changed(category_id="1"), rules.CATEGORY_ID),
    (changed(area=math.nan), rules.AREA),
    (changed(area="large"), rules.AREA),
    (changed(ignore=None), rules.IGNORE),
    (changed(iscrowd="no"), rules.ISCROWD),
    (changed(iscrowd=math.inf), rules.ISCROWD),
    (changed(iscrowd=2), rules.ISCROWD),  # and not ALL_CROWDS, which is worse
    (changed(iscrowd=1), rules.ALL_CROWDS),
    (changed(image_id=101), rules.ALL_ORPHANS),
    (changed(image_id="1"), rules.ALL_ORPHANS),
    (changed(image_id=[1]), rules.ALL_ORPHANS),
    ({**dataset(), "annotations": []}, rules.NO_ANNOTATIONS),
    ({**dataset(), "categories": [{"id": i, "name": "robin"} for i in (1, 2)]}, rules.CATEGORY_NAME_TWICE),
]


@pytest.mark.parametrize(("data", "rule"), REFUSED, ids=lambda x: getattr(x, "id", ""))
def test_refused(tmp_path, data, rule):
    report, message = report_and_refusal(tmp_path, data)
    finding = report.faults[rule.title]
    assert f"{finding.count} x {rule.title}, such as {finding.examples[0]}: {rule.fix}" in message
    whole = rule in (rules.ALL_CROWDS, rules.ALL_ORPHANS, rules.NO_ANNOTATIONS, rules.CATEGORY_NAME_TWICE)
    if not whole and rule not in (rules.ANNOTATION_ID_TWICE, rules.ANNOTATION_ID):
        assert finding.count == 8
        assert finding.examples[0].startswith("annotation 1 (1.png)")


WARNED = [
    (changed(area=None), rules.NO_AREA),
    (changed(area=-1), rules.NO_AREA),
    (changed(area="960.0"), rules.TEXT_AREA),
    (changed(iscrowd=None), rules.NO_ISCROWD),
    (changed(iscrowd="0"), rules.TEXT_ISCROWD),
    (changed(iscrowd=False), rules.TEXT_ISCROWD),
    (changed(bbox=[0, 0, WIDTH, HEIGHT]), rules.BOX_LARGE),
]


@pytest.mark.parametrize(("data", "rule"), WARNED, ids=lambda x: getattr(x, "id", ""))
def test_repaired_with_a_warning(tmp_path, data, rule, caplog):
    report, message = report_and_refusal(tmp_path, data)
    assert message is None
    assert report.warnings[rule.title].count == 8
    assert f"8 x {rule.title}, such as annotation 1 (1.png)" in caplog.text
    samples = load_dataset("mine")
    assert [len(x["annotations"]) for x in samples] == [2] * 4
    assert all(x["iscrowd"] == 0 for sample in samples for x in sample["annotations"])


@pytest.mark.parametrize("field", ["area", "iscrowd"])
def test_missing_fields_are_repaired(tmp_path, field):
    data = dataset()
    for x in data["annotations"]:
        del x[field]
    report, message = report_and_refusal(tmp_path, data)
    assert message is None
    assert [x.count for x in report.warnings.values()] == [8]


@pytest.mark.parametrize("first", [0, -3, "1"])
def test_annotation_ids_that_are_renumbered(tmp_path, first):
    data = dataset()
    for i, x in enumerate(data["annotations"]):
        x["id"] = str(i + 1) if first == "1" else first + i
    report, message = report_and_refusal(tmp_path, data)
    assert message is None
    assert len(report.warnings) == 1
    assert len(load_dataset("mine")) == 4


@pytest.mark.parametrize("missing", [True, False])
def test_objects_without_masks_are_no_fault_where_only_boxes_are_needed(tmp_path, missing, caplog):
    caplog.set_level("INFO")
    data = changed(segmentation=[])
    if missing:
        for x in data["annotations"]:
            del x["segmentation"]
    report, message = report_and_refusal(tmp_path, data, masks=False)
    assert message is None
    assert report.num_without_mask == 8
    assert "object without mask, such as annotation 1 (1.png): " in str(report)
    assert "only the box is used" in str(report)
    assert [len(x["annotations"]) for x in load_dataset("mine")] == [2] * 4
    assert "add 'segmentation'" not in str(report) + caplog.text


def test_rare_faults_are_repaired_or_dropped_and_named(tmp_path):
    """Each in a dataset of 300 annotations, as COCO itself has them."""
    data = dataset()
    template = data["annotations"][0]
    data["annotations"] = [{**template, "id": i, "image_id": i % 4 + 1} for i in range(1, 301)]
    box = BOXES[0]
    data["annotations"][0]["bbox"] = [0, 0, 0, 0]  # box from the mask
    data["annotations"][1].update(bbox=[0, 0, 0, 0], segmentation=[])  # nothing left
    data["annotations"][2]["segmentation"] = [polygon(box), [1, 2, 3, 4], []]  # one good polygon
    data["annotations"][3]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    data["annotations"][4]["image_id"] = 99
    report, message = report_and_refusal(tmp_path, data)
    assert message is None
    titles = [rules.BOX_NO_AREA, rules.NO_MASK, rules.POLYGON_TOO_SHORT, rules.RLE_EMPTY, rules.ORPHAN]
    counts = {title: x.count for title, x in report.warnings.items() if title != rules.INSTANCE_TWICE.title}
    assert counts == {rule.title: 2 if rule is rules.BOX_NO_AREA else 1 for rule in titles}
    samples = {x["image_id"]: x["annotations"] for x in load_dataset("mine")}
    assert sum(map(len, samples.values())) == 300 - 3
    assert samples[2][0]["bbox"] == box
    assert [len(x) for x in samples[4][0]["segmentation"]] == [8]


def test_rare_faults_that_are_no_longer_rare_are_refused(tmp_path):
    data = dataset()
    template = data["annotations"][0]
    data["annotations"] = [{**template, "id": i, "image_id": i % 4 + 1} for i in range(1, 301)]
    for x in data["annotations"][:4]:
        x["bbox"] = [0, 0, 0, 0]
    _, message = report_and_refusal(tmp_path, data)
    assert "4 x box without area" in message


def test_one_message_names_the_worst_and_counts_the_other_kinds(tmp_path):
    data = dataset()
    data["annotations"][0]["bbox"] = [0, 0, 0, 0]
    data["annotations"][3]["segmentation"] = [[math.nan] * 6]
    data["annotations"][5]["category_id"] = 9
    report, message = report_and_refusal(tmp_path, data)
    assert len(report.faults) == 3
    assert "1 x annotation with a category id that 'categories' lacks, such as annotation 6 (3.png): 9" in message
    assert "; 2 more kinds of faults (" in message


def test_a_root_class_without_objects_is_only_a_warning(tmp_path):
    data = dataset()
    data["categories"] = [{"id": 0, "name": "birds", "supercategory": "none"}, *data["categories"]]
    for x in data["categories"][1:]:
        x["supercategory"] = "birds"
    report = check_dataset(*write(tmp_path, data))
    assert report.ok
    assert report.warnings[rules.ROOT_CLASS.title].examples == ["birds"]


def test_backslashes_in_file_names(tmp_path):
    data = dataset()
    json_file, images = write(tmp_path, data)
    (tmp_path / "sub").mkdir()
    for x in data["images"]:
        (tmp_path / x["file_name"]).rename(tmp_path / "sub" / x["file_name"])
        x["file_name"] = "sub\\" + x["file_name"]
    (tmp_path / "data.json").write_text(json.dumps(data))
    assert check_dataset(json_file, images).ok
    register_coco_instances("mine", {}, json_file, images)
    check_datasets(["mine"], 2, "KEY")
    assert DatasetCatalog.get("mine")[0]["file_name"] == f"{images}/sub/1.png"


def test_byte_order_mark(tmp_path):
    json_file, images = write(tmp_path, dataset())
    (tmp_path / "data.json").write_text(json.dumps(dataset()), encoding="utf-8-sig")
    register_coco_instances("mine", {}, json_file, images)
    check_datasets(["mine"], 2, "KEY")
    assert len(DatasetCatalog.get("mine")) == 4


@pytest.mark.parametrize(("encoding", "message"), [("utf-16", "UTF-16"), ("latin-1", "perhaps Latin-1")])
def test_other_encodings_are_named(tmp_path, encoding, message):
    data = dataset()
    data["categories"][0]["name"] = "Mönchsgrasmücke"
    json_file, images = write(tmp_path, data)
    (tmp_path / "data.json").write_text(json.dumps(data, ensure_ascii=False), encoding=encoding)
    with pytest.raises(DataError, match=f"{message}.*: save it as UTF-8"):
        check_dataset(json_file, images)


def save_turned(folder, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(folder / "1.png", exif=exif)


def test_images_that_exif_data_turn_are_suspicious(tmp_path, caplog):
    paths = write(tmp_path, dataset())
    save_turned(tmp_path, 3, (WIDTH, HEIGHT))
    report = check_dataset(*paths)
    assert report.ok
    assert report.warnings[image_rules.TURNED_IMAGE.title].examples == [f"{tmp_path}/1.png (orientation 3)"]
    register_coco_instances("mine", {}, *paths)
    check_datasets(["mine"], 2, "KEY")
    assert "1.png (orientation 3)" in caplog.text


def test_annotations_of_the_size_before_the_turn(tmp_path):
    """Both sizes are named, EXIF as the reason, and two ways out."""
    paths = write(tmp_path, dataset())
    save_turned(tmp_path, 6, (WIDTH, HEIGHT))
    register_coco_instances("mine", {}, *paths)
    message = r"1\.png has 72x96 pixels, but the json says 96x72 .* EXIF orientation 6: annotate .*, or remove the"
    with pytest.raises(DataError, match=message):
        check_datasets(["mine"], 2, "KEY")
