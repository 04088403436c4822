"""What is wrong with a dataset is said in one sentence that names the thing and the mend."""

import shutil
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from centermask_solo.data.datasets import register_shapes
from centermask_solo.data.shapes import generator as shapes
from centermask_solo.data.validation.checks import NUM_SAMPLES, check_datasets
from tests.data import coco_files

KEY = "MODEL.SOLOV2.NUM_CLASSES"


def check(folder, data=coco_files.SOUND, num_classes=3):
    register_coco_instances("mine", {}, *coco_files.write(folder, data))
    return check_datasets(["mine"], num_classes, KEY)


def complaint(folder, data=coco_files.SOUND, num_classes=3, error=ValueError):
    with pytest.raises(error) as caught:
        check(folder, data, num_classes)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_sound_data_passes(tmp_path):
    assert check(tmp_path) == {"mine": ["dog", "cat", "emu"]}


def test_number_of_classes_may_be_unknown(tmp_path):
    assert check(tmp_path, num_classes=None) == {"mine": ["dog", "cat", "emu"]}


def test_number_of_classes(tmp_path):
    assert complaint(tmp_path, num_classes=80) == (
        f"{KEY} is 80, but the dataset 'mine' has 3 classes (dog, cat, emu): set {KEY} 3"
    )


def test_number_of_classes_of_shapes_which_are_generated_for_it(tmp_path, monkeypatch):
    monkeypatch.setitem(shapes.NUM_IMAGES, "train2", 2)
    register_shapes(str(tmp_path), "train2")
    with pytest.raises(
        ValueError, match=rf"{KEY} is 80, but the dataset 'shapes_train2' has 10 classes .* set {KEY} 10"
    ):
        check_datasets(["shapes_train2"], 80, KEY)
    assert len(check_datasets(["shapes_train2"], 10, KEY)["shapes_train2"]) == 10


def test_dataset_without_file_is_judged_by_its_metadata():
    DatasetCatalog.register("mine", list)
    MetadataCatalog.get("mine").thing_classes = ["cat"]
    assert check_datasets(["mine"], 1, KEY) == {"mine": ["cat"]}
    with pytest.raises(ValueError, match=r"is 2, but the dataset 'mine' has 1 class \(cat\)"):
        check_datasets(["mine"], 2, KEY)


def test_not_registered():
    sentence = r"'shapes_trian' is not registered; the nearest name is 'shapes_train', and .*DATASETS\.COCO_JSON"
    with pytest.raises(ValueError, match=sentence):
        check_datasets(["shapes_trian"], 10, KEY)


@pytest.mark.parametrize(("missing", "what"), [("data.json", "annotation file"), ("images", "folder of images")])
def test_files_that_are_missing(tmp_path, missing, what):
    register_coco_instances("mine", {}, *coco_files.write(tmp_path))
    path = tmp_path / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=f"the dataset 'mine' lacks its {what} {path}: datasets/README.md"):
        check_datasets(["mine"], 3, KEY)


@pytest.mark.parametrize("text", ["", "{", '{"images": [{"id": 1, "file_na', "hello"])
def test_json_that_is_cut_off(tmp_path, text):
    assert "data.json is not COCO: it is no JSON, or cut off" in complaint(tmp_path, text)


def test_json_that_is_no_text(tmp_path):
    register_coco_instances("mine", {}, *coco_files.write(tmp_path))
    (tmp_path / "data.json").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(ValueError, match="it is no text file"):
        check_datasets(["mine"], 3, KEY)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_parts_that_are_missing_or_of_a_wrong_type(tmp_path, key):
    data = coco_files.sound()
    del data[key]
    assert f"is not COCO: it lacks the list '{key}'" in complaint(tmp_path, data)
    for value in (None, 5, {"a": 1}, ["a"]):
        (tmp_path / "data.json").unlink()
        DatasetCatalog.remove("mine")
        MetadataCatalog.remove("mine")
        assert f"'{key}' is not a list of dicts" in complaint(tmp_path, {**data, key: value})


def test_json_that_is_no_dict(tmp_path):
    assert "is not COCO: it holds a list, not a dict with 'images'" in complaint(tmp_path, [coco_files.SOUND])


@pytest.mark.parametrize("key", ["images", "categories"])
def test_empty_lists(tmp_path, key):
    assert f"its '{key}' is empty" in complaint(tmp_path, {**coco_files.sound(), key: []})


FAULTS = [
    ("categories", {"id": "7"}, "needs a whole number as 'id' and a text as 'name'"),
    ("categories", {"name": None}, "needs a whole number as 'id' and a text as 'name'"),
    ("categories", {"id": 4}, "the category id 4 is there twice"),
    ("images", {"file_name": None}, "needs an 'id' and a text as 'file_name'"),
    ("images", {"width": "40"}, "the image 1.png needs positive whole numbers as 'width' and 'height'"),
    ("images", {"height": 0}, "the image 1.png needs positive whole numbers as 'width' and 'height'"),
    ("images", {"id": 2}, "the image id 2 is there twice"),
    ("images", {"id": [2]}, "the image id [2] is neither a number nor a text"),
    ("annotations", {"id": 3}, "the annotation id 3 is there twice"),
    ("annotations", {"category_id": "cat"}, "has a category id that is no whole number"),
    ("annotations", {"category_id": 5}, "(such as that with id 1) have the category ids 5, which 'categories' lacks"),
    ("annotations", {"bbox": []}, "the annotation with id 1 has the bbox [], which is not [x, y, width, height]"),
    ("annotations", {"bbox": [1, 2, 3, None]}, "which is not [x, y, width, height]"),
    ("annotations", {"ignore": 1}, "has 'ignore', which COCO does not know: use 'iscrowd'"),
    ("annotations", {"segmentation": [2, 3, 12, 3, 12, 11]}, "polygons that are not lists"),
    ("annotations", {"segmentation": "RLE"}, "neither polygons nor an RLE with 'size' and 'counts'"),
    ("annotations", {"segmentation": {"counts": "a"}}, "neither polygons nor an RLE with 'size' and 'counts'"),
    (
        "annotations",
        {"segmentation": {"size": [40, 30], "counts": [1200]}},
        "has an RLE of size [40, 30], but its image 1.png has [height, width] = [30, 40]: correct",
    ),
]


@pytest.mark.parametrize(("part", "change", "sentence"), FAULTS)
def test_faults_of_single_entries(tmp_path, part, change, sentence):
    data = coco_files.sound()
    data[part][0].update(change)
    assert sentence in complaint(tmp_path, data)


@pytest.mark.parametrize("key", ["id", "image_id", "category_id", "bbox"])
def test_annotation_that_lacks_something(tmp_path, key):
    data = coco_files.sound()
    del data["annotations"][2][key]
    assert f"lacks '{key}'" in complaint(tmp_path, data)


def test_classes_that_contradict_the_name(tmp_path):
    json_file, images = coco_files.write(tmp_path)
    register_coco_instances("mine", {"thing_classes": ["cat", "dog", "emu"]}, json_file, images)
    with pytest.raises(ValueError, match="has 3 classes, which are not the 3 that the name 'mine' stands for"):
        check_datasets(["mine"], 3, KEY)


def test_image_that_is_missing(tmp_path):
    data = coco_files.sound()
    data["images"][2]["file_name"] = "gone.png"
    sentence = complaint(tmp_path, data, error=FileNotFoundError)
    assert sentence == f"the image {tmp_path}/images/gone.png is missing: put it there, or take it out of the json"


@pytest.mark.parametrize("keep", [0, 20, 500])
def test_image_that_is_damaged(tmp_path, keep):
    register_coco_instances("mine", {}, *coco_files.write(tmp_path))
    path = tmp_path / "images" / "3.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ValueError, match=rf"the image {path} is damaged \(.*\): replace it, or take it out of the json"
    ):
        check_datasets(["mine"], 3, KEY)


def test_image_of_another_size(tmp_path):
    data = coco_files.sound()
    data["annotations"] = []
    data["images"][0].update(width=coco_files.HEIGHT, height=coco_files.WIDTH)
    assert complaint(tmp_path, data) == (
        f"the image {tmp_path}/images/1.png has 40x30 pixels, but the json says 30x40 (width x height), width and "
        "height exchanged: correct the json"
    )


def test_images_are_seen_as_their_exif_data_turns_them(tmp_path):
    data = coco_files.sound()
    data["annotations"] = []
    data["images"] = [{"id": 1, "file_name": "turned.jpg", "width": 30, "height": 40}]
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[274] = 6  # orientation: a quarter turn
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "turned.jpg", exif=exif)
    check(tmp_path, data)


def test_only_a_few_images_are_opened(tmp_path, monkeypatch):
    data = coco_files.sound()
    data["images"] = [{**data["images"][0], "id": i} for i in range(1, 1001)]
    opened = []
    monkeypatch.setattr(
        "centermask_solo.data.validation.checks.image_size", lambda path: (opened.append(path), (40, 30))[1]
    )
    check(tmp_path, data)
    assert 1 < len(opened) <= NUM_SAMPLES


def test_files_of_coco_s_own_names_are_named():
    """As on a machine without COCO."""
    metadata = MetadataCatalog.get("coco_2017_val")
    if Path(metadata.json_file).exists():
        pytest.skip("COCO is there")
    with pytest.raises(
        FileNotFoundError, match=r"'coco_2017_val' lacks .*instances_val2017.json: .*DETECTRON2_DATASETS"
    ):
        check_datasets(["coco_2017_val"], 80, KEY)
