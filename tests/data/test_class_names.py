import json

import pytest

from centermask_solo.data.class_names import read_class_names
from centermask_solo.utils.errors import ConfigError

NAMES = ["cat", "dog", "traffic light"]
COCO = {"categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}, {"id": 7, "name": "traffic light"}]}


def test_names_are_returned_as_given():
    assert read_class_names(NAMES) == NAMES
    assert read_class_names(["cat"]) == ["cat"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("x.txt", "cat\n dog\n\ntraffic light\n"), ("x.json", json.dumps(NAMES)), ("x.json", json.dumps(COCO))],
)
def test_names_from_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_class_names([str(tmp_path / name)]) == NAMES


@pytest.mark.parametrize(("name", "text"), [("x.txt", "\n"), ("x.json", "{}"), ("x.json", "[1]"), ("x.json", "cat")])
def test_files_without_names(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"{name} holds no class names: give a \.txt file"):
        read_class_names([str(tmp_path / name)])


def test_duplicates_and_missing_files(tmp_path):
    with pytest.raises(ConfigError, match="the class name 'cat' occurs twice"):
        read_class_names(["cat", "dog", "cat"])
    with pytest.raises(ConfigError, match=r"the file of class names .*absent\.txt is missing"):
        read_class_names([str(tmp_path / "absent.txt")])
