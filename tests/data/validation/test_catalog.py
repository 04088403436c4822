"""Each check finds its fault and nothing else, and a clean dataset passes them all."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from centermask_solo.data.validation import report as report_module
from centermask_solo.data.validation.catalog import RULES, checks_json, checks_page, checks_table, select
from centermask_solo.data.validation.report import check_dataset
from centermask_solo.utils.errors import ConfigError
from tests.data.validation.clean_set import HEIGHT, WIDTH, clean, found, polygon, write


def test_a_clean_dataset_passes_all_checks(tmp_path):
    write(tmp_path, clean())
    assert found(tmp_path) == {}


# What is changed in the clean dataset: functions of the json
def first(**fields):
    """Change fields of the first annotation; functions are given its box."""

    def change(data):
        x = data["annotations"][0]
        x.update({key: value(x["bbox"]) if callable(value) else value for key, value in fields.items()})

    return change


def every(**fields):
    def change(data):
        for x in data["annotations"]:
            x.update({key: value(x["bbox"]) if callable(value) else value for key, value in fields.items()})

    return change


def without(*fields):
    def change(data):
        for field in fields:
            del data["annotations"][0][field]

    return change


def image(**fields):
    return lambda data: data["images"][0].update(fields)


def category(**fields):
    return lambda data: data["categories"][0].update(fields)


def encoded(box, height=HEIGHT, width=WIDTH):
    return {"size": [height, width], "counts": rle.merge(rle.frPyObjects([polygon(box)], height, width))["counts"]}


def runs(box, **changes):
    mask = encoded(box)
    return {"size": mask["size"], "counts": mask["counts"].decode(), **changes}


def normalize(numbers):
    return [x / WIDTH for x in numbers]


def by_rows(box):
    """Return an RLE whose runs go row by row."""
    rows = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y, w, h = box
    rows[y : y + h, x : x + w] = 1
    counts = np.diff(np.flatnonzero(np.diff(rows.ravel(), prepend=0, append=2)), prepend=0)
    return {"size": [HEIGHT, WIDTH], "counts": counts.tolist()}


def second_copy(**fields):
    def change(data):
        data["annotations"].append({**copy.deepcopy(data["annotations"][0]), "id": 99, **fields})

    return change


def many_objects(data):
    x = data["annotations"][0]
    boxes = [[10 * (i % 9), 5 * (i // 9), 9, 4] for i in range(101)]
    for i, box in enumerate(boxes):
        mask = [polygon(box)]
        data["annotations"].append({**x, "id": 100 + i, "bbox": box, "segmentation": mask, "area": 36})


def third_class(number, **fields):
    """Add a class with some objects."""

    def change(data):
        data["categories"].append({"id": 3, "name": "owl"})
        for i in range(number):
            box = [2 * i + 1, 31, 12 + i, 8]
            x = {"id": 50 + i, "image_id": 1, "category_id": 3, "iscrowd": 0, "area": box[2] * 8, "bbox": box}
            data["annotations"].append({**x, "segmentation": runs(box), **fields})

    return change


def lvis(data):
    for x in data["images"]:
        x.update(coco_url=f"http://a.b/./{x['file_name']}", neg_category_ids=[], not_exhaustive_category_ids=[])
    for x in data["categories"]:
        x["frequency"] = "f"


def renamed_images(data):
    for x in data["images"]:
        x["coco_url"] = f"http://a.b/./{x.pop('file_name')}"


def renumbered(numbers):
    def change(data):
        for key, entries in (("id", data["categories"]), ("category_id", data["annotations"])):
            for x in entries:
                x[key] = numbers[x[key]]

    return change


def shifted(data):
    for x in data["annotations"]:
        x["category_id"] -= 1


def root_class(data):
    data["categories"][0]["supercategory"] = "bird"
    data["categories"].append({"id": 3, "name": "bird"})


def without_objects(data):
    """Move the objects of the first image, by a pixel, to another."""
    for x in data["annotations"][:6]:
        x.update(image_id=2, bbox=[x["bbox"][0] + 1, *x["bbox"][1:]])


def unlisted(data):
    """Drop the last image; give the first one more objects, so that no class becomes rare."""
    data["images"].pop()
    del data["annotations"][18:]
    for k, box in enumerate([[3, 31, 9, 8], [22, 31, 9, 8], [42, 31, 9, 8], [61, 31, 9, 8]]):
        x = {**data["annotations"][0], "id": 80 + k, "category_id": k % 2 + 1, "bbox": box, "area": 72}
        data["annotations"].append({**x, "segmentation": [polygon(box)]})


ANNOTATION_TRIES = {
    "no-categories": (lambda d: d.update(categories=[]), {"unknown-category"}),
    "category-fields": (category(name=None), set()),
    "category-id-twice": (lambda d: d["categories"].append({"id": 2, "name": "owl"}), set()),
    "category-name-twice": (category(name="wren"), set()),
    "category-names-alike": (category(name="Wren "), set()),
    "category-id-zero": (renumbered({1: 0, 2: 1}), set()),
    "category-id-gaps": (renumbered({1: 1, 2: 7}), set()),
    "no-images": (lambda d: d.update(images=[]), {"all-orphans"}),
    "image-fields": (image(file_name=None), {"unlisted-image"}),
    "image-size": (image(width="96"), set()),
    "image-id-twice": (lambda d: d["images"].append({**d["images"][0], "file_name": "5.png"}), {"missing-image"}),
    "image-ids-mixed": (lambda d: (image(id="1")(d), [x.update(image_id="1") for x in d["annotations"][:6]]), set()),
    "no-annotations": (lambda d: d.update(annotations=[]), {"image-without-objects", "class-without-objects"}),
    "all-orphans": (every(image_id=77), {"image-without-objects"}),
    "all-crowds": (every(iscrowd=1, segmentation=runs), {"class-only-crowds"}),
    "all-vanish": (every(bbox=[0, 0, 0, 0], segmentation=[]), {"box-no-area", "no-mask"}),
    "annotation-fields": (without("bbox"), set()),
    "annotation-id": (first(id="a"), set()),
    "annotation-id-twice": (first(id=2), set()),
    "category-id": (first(category_id=[1]), set()),
    "unknown-category": (first(category_id=9), set()),
    "category-ids-shifted": (shifted, {"class-without-objects"}),
    "ignore": (first(ignore=1), set()),
    "iscrowd": (first(iscrowd=2), set()),
    "area": (first(area=math.nan), set()),
    "keypoints": (first(keypoints=["a"]), set()),
    "box-format": (first(bbox=[1, 2, 3]), set()),
    "box-not-finite": (first(bbox=[1, 2, 3, math.nan]), set()),
    "segmentation-type": (first(segmentation="a"), set()),
    "polygon-format": (first(segmentation=polygon), set()),
    "polygon-pairs": (first(segmentation=lambda b: [np.reshape(polygon(b), (4, 2)).tolist()]), set()),
    "polygon-numbers": (first(segmentation=[["a", 1, 2, 3, 4, 5]]), set()),
    "polygon-not-finite": (first(segmentation=lambda b: [[*polygon(b)[:-1], math.nan]]), set()),
    "rle-in-list": (first(segmentation=lambda b: [runs(b)]), set()),
    "rle-transposed": (first(segmentation=lambda b: runs(b, size=[WIDTH, HEIGHT])), set()),
    "rle-size": (first(segmentation=lambda b: runs(b, size=[5, 5])), set()),
    "rle-counts": (first(segmentation=lambda b: runs(b, counts=["a"])), set()),
    "rle-sum": (first(segmentation=lambda b: runs(b, counts=[5, 5])), set()),
    "rle-by-rows": (first(segmentation=by_rows), set()),
    "rle-empty": (first(segmentation=lambda b: runs(b, counts=[WIDTH * HEIGHT])), set()),
    "far-away": (first(bbox=[1, 2, 3, 1e6]), set()),
    "normalized": (every(segmentation=lambda b: [normalize(polygon(b))], bbox=lambda b: normalize(b)), set()),
    "corner-box": (first(bbox=lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]), set()),
    "box-mask-disagree": (first(bbox=[60, 40, 20, 20]), set()),
    "box-large": (first(bbox=[0, 0, WIDTH, HEIGHT]), set()),
    "box-inverted": (first(bbox=[24, 28, -20, -24]), set()),
    "box-no-area": (first(bbox=[4, 4, 0, 0]), set()),
    "box-outside": (first(bbox=[200, 4, 20, 24]), set()),
    "box-beyond": (first(bbox=[4, 4, 20, 90]), set()),
    "box-tiny": (first(bbox=[4, 4, 20, 1], segmentation=[polygon([4, 4, 20, 1])], area=20), set()),
    "orphan": (first(image_id=77), set()),
    "polygon-too-short": (first(segmentation=[[4, 4, 24, 28]]), set()),
    "polygon-no-area": (first(segmentation=[[4, 4, 14, 16, 24, 28]]), set()),
    "polygon-beyond": (first(segmentation=[polygon([4, 4, 20, 90])]), set()),
    "polygon-crosses-itself": (first(segmentation=[[4, 4, 24, 28, 24, 4, 4, 20]], area=240), set()),
    "no-mask": (first(segmentation=[]), set()),
    "root-class": (root_class, set()),
    "no-file-name": (renamed_images, set()),
    "annotation-id-not-positive": (first(id=0), set()),
    "annotation-id-text": (first(id="77"), set()),
    "no-area": (without("area"), set()),
    "area-text": (first(area="480"), set()),
    "area-differs": (first(area=20), set()),
    "no-iscrowd": (without("iscrowd"), set()),
    "iscrowd-text": (first(iscrowd="0"), set()),
    "instance-twice": (second_copy(), set()),
    "instance-of-two-classes": (second_copy(category_id=2), set()),
    "crowd-polygons": (first(iscrowd=1), set()),
    "class-only-crowds": (third_class(2, iscrowd=1), set()),
    "class-without-objects": (third_class(0), set()),
    "class-rare": (third_class(2), set()),
    "objects-many": (many_objects, set()),
    "image-without-objects": (without_objects, set()),
    "missing-image": (image(file_name="absent.png"), {"unlisted-image"}),
    "file-name-twice": (lambda d: d["images"][1].update(file_name="1.png"), {"unlisted-image"}),
    "unlisted-image": (unlisted, set()),
}  # fmt: skip


@pytest.mark.parametrize("name", ANNOTATION_TRIES)
def test_annotations(tmp_path, name):
    change, others = ANNOTATION_TRIES[name]
    data = clean()
    change(data)
    write(tmp_path, data)
    assert found(tmp_path).keys() == {name} | others


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)


def noise(height=HEIGHT, width=WIDTH):
    return np.random.default_rng(9).integers(0, 256, (height, width, 3), np.uint8)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def similar(folder):
    pixels = np.asarray(Image.open(folder / "2.png")).copy()
    pixels[0, 0] += 1
    save(folder / "1.png", pixels)


def backslash(folder):
    (folder / "sub").mkdir()
    (folder / "1.png").rename(folder / "sub" / "1.png")
    path = folder / "data.json"
    path.write_text(path.read_text().replace('"1.png"', '"sub\\\\1.png"'))


def outside(folder):
    (folder / "1.png").rename(folder.parent / "elsewhere.png")
    (folder / "1.png").symlink_to(folder.parent / "elsewhere.png")


IMAGE_TRIES = {
    "byte-order-mark": (lambda f: (f / "data.json").write_bytes(b"\xef\xbb\xbf" + (f / "data.json").read_bytes())),
    "backslash": backslash,
    "outside-path": outside,
    "damaged-image": lambda f: (f / "1.png").write_bytes((f / "1.png").read_bytes()[:500]),
    "image-too-large": lambda f: save(f / "1.png", noise(100, 100)),
    "size-swapped": lambda f: save(f / "1.png", noise(WIDTH, HEIGHT)),
    "quarter-turn": lambda f: save(f / "1.png", noise(), exif=turned(6)),
    "size-differs": lambda f: save(f / "1.png", noise(60, 60)),
    "turned-image": lambda f: save(f / "1.png", noise(), exif=turned(3)),
    "plain-image": lambda f: save(f / "1.png", np.full((HEIGHT, WIDTH, 3), 7, np.uint8)),
    "image-twice": lambda f: (f / "1.png").write_bytes((f / "2.png").read_bytes()),
    "image-similar": similar,
    "format-differs": lambda f: save(f / "1.png", noise(), format="JPEG"),
}


@pytest.mark.parametrize("name", IMAGE_TRIES)
def test_image_files(tmp_path, name):
    folder = tmp_path / "data"
    write(folder, clean())
    IMAGE_TRIES[name](folder)
    assert found(folder, max_pixels=WIDTH * HEIGHT).keys() == {name}
    if name not in ("byte-order-mark", "backslash", "outside-path"):
        assert found(folder, open_images=False) == {}


@pytest.mark.parametrize("name", ["lvis-image", "lvis-category"])
def test_lvis(tmp_path, name):
    data = clean()
    lvis(data)
    if name == "lvis-image":
        del data["images"][0]["neg_category_ids"]
    else:
        data["categories"][0]["frequency"] = "x"
    write(tmp_path, data)
    assert found(tmp_path, lvis=True).keys() == {name}


def leaked(folder, other):
    (other / "3.png").write_bytes((folder / "1.png").read_bytes())


def leaked_similar(folder, other):
    Image.open(folder / "1.png").resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.NEAREST).save(other / "3.png")


def other_classes(folder, other):
    path = other / "data.json"
    path.write_text(path.read_text().replace("robin", "owl"))


def unused_class(folder, other):
    path = other / "data.json"
    data = json.loads(path.read_text())
    for x in data["annotations"]:
        x["category_id"] = 2
    path.write_text(json.dumps(data))


SET_TRIES = {
    "leaked-image": leaked,
    "leaked-similar": leaked_similar,
    "classes-differ": other_classes,
    "class-in-one-set": unused_class,
}


@pytest.mark.parametrize("name", [None, *SET_TRIES])
def test_two_sets(tmp_path, name):
    folder, other = tmp_path / "train", tmp_path / "val"
    write(folder, clean(), seed=0)
    write(other, clean(), seed=1)
    if name:
        SET_TRIES[name](folder, other)
    report = check_dataset(str(folder / "data.json"), str(folder), against=(str(other / "data.json"), str(other)))
    groups = (report.faults, report.warnings, report.notes)
    counts = {x.rule.id: x.count for group in groups for x in group.values()}
    assert counts == ({name: 2 if name == "classes-differ" else 1} if name else {})
    assert report.ok == (name in (None, "leaked-similar", "class-in-one-set"))


OF_MODELS = {"objects-uncovered", "objects-collide", "objects-shrink"}  # tests/data/validation/test_fit.py


def test_every_check_is_tried():
    tried = [*ANNOTATION_TRIES, *IMAGE_TRIES, *SET_TRIES, "lvis-image", "lvis-category", *OF_MODELS]
    assert sorted(tried) == sorted(x.id for x in RULES)
    assert len(RULES) == len({x.id for x in RULES}) == len({x.title for x in RULES})


def test_selection(tmp_path, monkeypatch):
    data = clean()
    first(bbox=[0, 0, 0, 0], area=None)(data)
    write(tmp_path, data)
    (tmp_path / "1.png").write_bytes(b"damaged")
    assert found(tmp_path).keys() == {"box-no-area", "no-area", "damaged-image"}
    assert found(tmp_path, checks=select(skip=["damaged-*"])).keys() == {"box-no-area", "no-area"}
    monkeypatch.setattr(report_module, "check_image_files", None)  # no check that needs it is asked for
    assert found(tmp_path, checks=select(["box-*", "no-area"], ["no-*"])).keys() == {"box-no-area"}
    with pytest.raises(ConfigError, match="there is no check 'box-no-aera'; the nearest one is box-no-area"):
        select(["box-no-aera"])


def test_tables():
    assert len(checks_table().splitlines()) == len(checks_json()) == len(RULES) > 90
    page = Path(__file__).parents[3] / "docs" / "data_checks.md"
    assert page.read_text(encoding="utf-8") == checks_page(), "run the command on that page"
