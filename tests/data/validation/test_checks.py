"""Faults of a dataset are one-line errors that name the culprit and the fix."""

import shutil
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from centermask_solo.data.datasets import register_shapes
from centermask_solo.data.shapes import generator as shapes
from centermask_solo.data.validation.checks import NUM_SAMPLES, check_datasets
from centermask_solo.utils.errors import ConfigError, DataError
from tests.data import coco_files

KEY = "MODEL.SOLOV2.NUM_CLASSES"


def check(folder, data=coco_files.VALID, num_classes=3):
    register_coco_instances("mine", {}, *coco_files.write(folder, data))
    return check_datasets(["mine"], num_classes, KEY)


def message_of(folder, data=coco_files.VALID, num_classes=3, error=DataError):
    """The message of the error that the check raises."""
    with pytest.raises(error) as caught:
        check(folder, data, num_classes)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_valid_data_passes(tmp_path):
    assert check(tmp_path) == {"mine": ["dog", "cat", "emu"]}


def test_number_of_classes_may_be_unknown(tmp_path):
    assert check(tmp_path, num_classes=None) == {"mine": ["dog", "cat", "emu"]}


def test_number_of_classes(tmp_path):
    assert message_of(tmp_path, num_classes=80, error=ConfigError) == (
        f"{KEY} is 80, but the dataset 'mine' has 3 classes (dog, cat, emu): set {KEY} 3 or auto"
    )


def test_shapes_are_generated_to_check_the_number_of_classes(tmp_path, monkeypatch):
    monkeypatch.setitem(shapes.NUM_IMAGES, "train2", 2)
    register_shapes(str(tmp_path), "train2")
    with pytest.raises(
        ConfigError, match=rf"{KEY} is 80, but the dataset 'shapes_train2' has 10 classes .* set {KEY} 10"
    ):
        check_datasets(["shapes_train2"], 80, KEY)
    assert len(check_datasets(["shapes_train2"], 10, KEY)["shapes_train2"]) == 10


def test_dataset_without_json_is_checked_by_its_metadata():
    DatasetCatalog.register("mine", list)
    MetadataCatalog.get("mine").thing_classes = ["cat"]
    assert check_datasets(["mine"], 1, KEY) == {"mine": ["cat"]}
    with pytest.raises(ConfigError, match=r"is 2, but the dataset 'mine' has 1 class \(cat\)"):
        check_datasets(["mine"], 2, KEY)


def test_not_registered():
    message = r"'shapes_trian' is not registered; the nearest one is shapes_train; .*DATASETS\.COCO_JSON"
    with pytest.raises(ConfigError, match=message):
        check_datasets(["shapes_trian"], 10, KEY)


@pytest.mark.parametrize(("missing", "what"), [("data.json", "annotation file"), ("images", "folder of images")])
def test_missing_files(tmp_path, missing, what):
    register_coco_instances("mine", {}, *coco_files.write(tmp_path))
    path = tmp_path / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=f"the dataset 'mine' lacks its {what} {path}: correct the path"):
        check_datasets(["mine"], 3, KEY)


@pytest.mark.parametrize("text", ["", "{", '{"images": [{"id": 1, "file_na', "hello"])
def test_truncated_json(tmp_path, text):
    assert "data.json is not COCO: it is not JSON, or truncated" in message_of(tmp_path, text)


def test_binary_json(tmp_path):
    register_coco_instances("mine", {}, *coco_files.write(tmp_path))
    (tmp_path / "data.json").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(DataError, match="it is not a text file"):
        check_datasets(["mine"], 3, KEY)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_lists_and_lists_of_a_wrong_type(tmp_path, key):
    data = coco_files.valid()
    del data[key]
    assert f"is not COCO: it lacks the list '{key}'" in message_of(tmp_path, data)
    for value in (None, 5, {"a": 1}, ["a"]):
        (tmp_path / "data.json").unlink()
        DatasetCatalog.remove("mine")
        MetadataCatalog.remove("mine")
        assert f"'{key}' is not a list of dicts" in message_of(tmp_path, {**data, key: value})


def test_panoptic_files_are_named(tmp_path):
    segments = [{"id": 1, "category_id": 1, "iscrowd": 0}]
    panoptic = [{"image_id": 1, "file_name": "1.png", "segments_info": segments}]
    found = message_of(tmp_path, {**coco_files.valid(), "annotations": panoptic})
    assert "data.json is a panoptic annotation file" in found and "give annotations of instances" in found


def test_json_must_be_a_dict(tmp_path):
    assert "is not COCO: it holds a list, not a dict with 'images'" in message_of(tmp_path, [coco_files.VALID])


@pytest.mark.parametrize("key", ["images", "categories"])
def test_empty_lists(tmp_path, key):
    assert f"'{key}' that is empty" in message_of(tmp_path, {**coco_files.valid(), key: []})


FAULTS = [
    ("categories", {"id": "7"}, """category without an integer 'id' and a string 'name', such as {"id": "7", """),
    ("categories", {"name": None}, "category without an integer 'id' and a string 'name'"),
    ("categories", {"name": " "}, "category without an integer 'id' and a string 'name'"),
    ("categories", {"id": 4}, "category id that occurs twice, such as 4"),
    ("images", {"file_name": None}, "image without an 'id' (number or string) and a string 'file_name'"),
    ("images", {"file_name": ""}, "image without an 'id' (number or string) and a string 'file_name'"),
    ("images", {"width": "40"}, """image without positive integers 'width' and 'height', such as 1.png: ["40", 30]"""),
    ("images", {"height": 0}, "image without positive integers 'width' and 'height', such as 1.png: [40, 0]"),
    ("images", {"id": 2}, "image id that occurs twice, such as 2"),
    ("images", {"id": [2]}, "image without an 'id' (number or string)"),
    ("annotations", {"id": 3}, "annotation id that occurs twice, such as annotation 3 (2.png)"),
    (
        "annotations",
        {"category_id": "cat"},
        """category id that is not an integer, such as annotation 1 (1.png): "cat\"""",
    ),
    (
        "annotations",
        {"category_id": 5},
        "category id that 'categories' lacks, such as annotation 1 (1.png): 5 (4, 7, 9 exist): add it",
    ),
    ("annotations", {"bbox": []}, "bbox that is not [x, y, width, height], such as annotation 1 (1.png): []"),
    ("annotations", {"bbox": [1, 2, 3, None]}, "bbox that is not [x, y, width, height]"),
    ("annotations", {"ignore": 1}, "'ignore', which is not part of COCO, such as annotation 1 (1.png): use 'iscrowd'"),
    ("annotations", {"segmentation": [2, 3, 12, 3, 12, 11]}, "segmentation that is not a list of flat polygons"),
    ("annotations", {"segmentation": "RLE"}, "neither a list of polygons nor an RLE with 'size' and 'counts'"),
    ("annotations", {"segmentation": {"counts": "a"}}, "neither a list of polygons nor an RLE with 'size' and"),
    (
        "annotations",
        {"segmentation": {"size": [40, 30], "counts": [1200]}},
        "RLE whose size is [width, height] of its image, such as annotation 1 (1.png): [40, 30], not [30, 40]",
    ),
]


@pytest.mark.parametrize(("part", "change", "message"), FAULTS)
def test_faults_of_single_entries(tmp_path, part, change, message):
    data = coco_files.valid()
    data[part][0].update(change)
    assert message in message_of(tmp_path, data)


@pytest.mark.parametrize("key", ["id", "image_id", "category_id", "bbox"])
def test_annotation_with_a_missing_key(tmp_path, key):
    data = coco_files.valid()
    del data["annotations"][2][key]
    assert f"lacks '{key}'" in message_of(tmp_path, data)


def test_json_must_have_the_registered_classes(tmp_path):
    json_file, images = coco_files.write(tmp_path)
    register_coco_instances("mine", {"thing_classes": ["cat", "dog", "emu"]}, json_file, images)
    with pytest.raises(DataError, match="has 3 classes, which are not the 3 classes registered for 'mine': give"):
        check_datasets(["mine"], 3, KEY)


def test_missing_image(tmp_path):
    data = coco_files.valid()
    data["images"][2]["file_name"] = "gone.png"
    message = message_of(tmp_path, data)
    assert message == (
        f"{tmp_path}/data.json: 1 x missing image, such as {tmp_path}/images/gone.png: correct the folder or its "
        f"'file_name', or remove it from the json ('centermask-solo data check "
        f"{tmp_path}/data.json {tmp_path}/images' lists every fault)"
    )


@pytest.mark.parametrize("keep", [0, 20, 500])
def test_damaged_image(tmp_path, keep):
    register_coco_instances("mine", {}, *coco_files.write(tmp_path))
    path = tmp_path / "images" / "3.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"the image {path} is damaged \(.*\): replace it, or remove it from the json"):
        check_datasets(["mine"], 3, KEY)


def test_image_of_another_size(tmp_path):
    data = coco_files.valid()
    del data["annotations"][:2]
    data["images"][0].update(width=coco_files.HEIGHT, height=coco_files.WIDTH)
    assert message_of(tmp_path, data) == (
        f"the image {tmp_path}/images/1.png has 40x30 pixels, but the json says 30x40 (width x height), width and "
        "height swapped: correct the json"
    )


def test_image_sizes_respect_exif_orientation(tmp_path):
    data = coco_files.valid()
    del data["annotations"][1:]
    data["images"] = [{"id": 1, "file_name": "rotated.jpg", "width": 30, "height": 40}]
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[274] = 6  # orientation: a quarter turn
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "rotated.jpg", exif=exif)
    check(tmp_path, data)


def test_only_a_few_images_are_opened(tmp_path, monkeypatch):
    data = coco_files.valid()
    data["images"] = [{**data["images"][0], "id": i} for i in range(1, 1001)]
    opened = []
    image_size = "centermask_solo.data.images.image_size"
    monkeypatch.setattr(image_size, lambda path, limit: (opened.append(path), (40, 30))[1])
    check(tmp_path, data)
    assert 1 < len(opened) <= NUM_SAMPLES


def test_missing_files_of_builtin_datasets():
    """As on a machine without COCO."""
    metadata = MetadataCatalog.get("coco_2017_val")
    if Path(metadata.json_file).exists():
        pytest.skip("COCO is installed")
    with pytest.raises(DataError, match=r"'coco_2017_val' lacks .*instances_val2017.json: .*DETECTRON2_DATASETS"):
        check_datasets(["coco_2017_val"], 80, KEY)
